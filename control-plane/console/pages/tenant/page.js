// One tenant: its state, which is asked for as long as it is looked at, and a section below.

import { Problem, isLeft } from "../../app/api.js";
import { tenants } from "../../app/calls.js";
import { poll } from "../../app/poll.js";
import { href } from "../../app/router.js";
import { may, session } from "../../app/session.js";
import { trouble as kindWords } from "../../app/words.js";
import { badge, tenantStatus } from "../../parts/badge.js";
import { Series } from "../../parts/chart.js";
import { identifier } from "../../parts/copy.js";
import { fill, h } from "../../parts/dom.js";
import { working } from "../../parts/field.js";
import { notify } from "../../parts/notice.js";
import { failed, loading, sentence, trouble } from "../../parts/state.js";
import { time } from "../../parts/time.js";
import { trail } from "../../parts/trail.js";
import { activity } from "./activity.js";
import { credentialsSection } from "./credentials.js";
import { lettersSection } from "./letters.js";
import { messagesSection } from "./messages.js";
import { settings } from "./settings.js";

/** @import { Tenant } from "../../app/types.js" */

const EVERY_MS = 1_500;
const WINDOW_MS = 5 * 60_000;
/** Of so many tenants the figures are kept while others are looked at. */
const KEPT_MAX = 20;

/** @typedef {{stored: Series, backlog: Series}} Figures */

/** @type {Map<string, Figures>} */
const kept = new Map();

/** @param {string} id */
function figures(id) {
  const known = kept.get(id) ?? { stored: new Series(WINDOW_MS), backlog: new Series(WINDOW_MS) };
  kept.delete(id);
  kept.set(id, known);
  for (const oldest of kept.keys()) if (kept.size > KEPT_MAX) kept.delete(oldest);
  return known;
}

/**
 * What a section has of the tenant that it belongs to.
 * @typedef {object} Context
 * @property {string} id
 * @property {AbortSignal} signal
 * @property {Figures} figures
 * @property {() => Tenant | null} now as of the last answer
 * @property {(listener: (tenant: Tenant) => void) => void} watch called now, if it is known, and with every answer
 * @property {() => void} again asks for the tenant now
 */

/** @type {{name: string, title: string, right?: import("../../app/session.js").Right, make: (context: Context) => HTMLElement}[]} */
const SECTIONS = [
  { name: "activity", title: "Activity", make: activity },
  { name: "messages", title: "Messages", make: messagesSection },
  { name: "dead-letters", title: "Dead letters", right: "letters", make: lettersSection },
  { name: "credentials", title: "Credentials", right: "credentials", make: credentialsSection },
  { name: "settings", title: "Settings", right: "manage", make: settings },
  { name: "audit", title: "Audit", right: "audit", make: ({ id, signal }) => trail(id, signal) },
];

/**
 * @param {string} id
 * @param {string | undefined} wanted
 * @param {AbortSignal} signal
 * @returns {import("../../app/router.js").Page}
 */
export function tenantPage(id, wanted, signal) {
  const open = SECTIONS.filter(({ right }) => right === undefined || may(right));
  const section = open.find(({ name }) => name === wanted) ?? open[0];
  const wrong = trouble();
  const title = h("h1", null, "Tenant");
  const status = h("span");
  const description = h("p", { class: "muted", hidden: true });
  const toggle = h("button", { type: "button", hidden: true });
  const problem = h("div", { class: "banner warn", role: "status", hidden: true });
  const ways = h(
    "nav",
    { class: "tabs", "aria-label": "Sections of the tenant" },
    open.map(({ name, title: text }) => h("a", { href: href("tenants", id, name), "aria-current": name === section?.name && "page" }, text)),
  );
  const body = h("div", { class: "section" }, loading("the tenant"));
  const element = h(
    "section",
    null,
    h("div", { class: "head" }, h("div", null, h("div", { class: "title" }, title, status), description, identifier(id, "the tenant's id")), toggle),
    wrong.element,
    problem,
    ways,
    body,
  );

  /** @type {Tenant | null} */
  let now = null;
  /** @type {((tenant: Tenant) => void)[]} */
  const listeners = [];
  const history = figures(id);
  /** @type {Context} */
  const context = {
    id,
    signal,
    figures: history,
    now: () => now,
    watch: (listener) => {
      listeners.push(listener);
      if (now) listener(now);
    },
    again: () => asked.again(),
  };

  /** @param {Tenant} tenant */
  const draw = (tenant) => {
    fill(title, tenant.name);
    document.title = `${tenant.name} · Jalur`;
    fill(status, tenantStatus(tenant.status));
    fill(description, tenant.description);
    description.hidden = tenant.description === "";
    toggle.hidden = !may("manage") || tenant.status === "creating";
    if (!toggle.disabled) fill(toggle, tenant.status === "paused" ? "Resume" : "Pause");
    const told = tenant.runtime?.problem;
    const key = told ? `${told.kind} ${told.since} ${told.detail}` : "";
    problem.hidden = !told;
    // It is read out when it changes, and not with every answer.
    if (told && problem.dataset.key !== key) fill(problem, h("div", { class: "problem-head" }, badge(kindWords(told.kind), "warn"), h("span", null, "since ", time(told.since))), h("p", null, sentence(told.detail)));
    problem.dataset.key = key;
    for (const listener of listeners) listener(tenant);
  };

  const asked = poll(
    async (asking) => {
      const tenant = await tenants.get(id, asking);
      const isFirst = now === null;
      now = tenant;
      wrong.clear();
      history.stored.add(tenant.runtime?.stored_per_second);
      history.backlog.add(tenant.runtime?.queue_depth);
      if (isFirst && section) fill(body, section.make(context));
      draw(tenant);
    },
    {
      everyMs: EVERY_MS,
      signal,
      onFailure: (error) => {
        if (now) return wrong.show(error);
        const isGone = error instanceof Problem && (error.status === 404 || error.status === 400);
        ways.hidden = isGone;
        fill(body, failed(error, isGone ? undefined : () => asked.again()));
        if (isGone && session()?.tenant === null) body.append(h("p", null, h("a", { href: href("tenants") }, "All tenants")));
      },
    },
  );

  toggle.addEventListener("click", () => {
    const pauses = now?.status !== "paused";
    void working(
      toggle,
      pauses ? "Pausing…" : "Resuming…",
      async () => {
        const changed = await tenants.update(id, { status: pauses ? "paused" : "active" });
        now = changed;
        notify(pauses ? `${changed.name} is paused: its messages wait in its queue.` : `${changed.name} is active again.`);
      },
      (error) => isLeft(error) || wrong.show(error),
    ).then(() => now && !signal.aborted && draw(now));
  });
  return { title: "Tenant", element };
}
