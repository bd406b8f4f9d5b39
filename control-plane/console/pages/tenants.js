// All tenants: searched, sorted, and new ones made.

import { tenants as calls } from "../app/calls.js";
import { fleet, pauseMs, readFleet } from "../app/fleet.js";
import { poll } from "../app/poll.js";
import { go, href } from "../app/router.js";
import { brief, counted, date, dateTime, number, perSecond, trouble as kindWords, utc } from "../app/words.js";
import { badge, tenantStatus } from "../parts/badge.js";
import { open } from "../parts/dialog.js";
import { fill, h } from "../parts/dom.js";
import { field, form, select } from "../parts/field.js";
import { grid } from "../parts/grid.js";
import { notify } from "../parts/notice.js";
import { empty, loading, trouble } from "../parts/state.js";

/** @import { Tenant } from "../app/types.js" */

/** What was asked for last, for who comes back from a tenant. */
const view = { search: "", which: "all", sort: { key: "name", down: false } };

/** @type {import("../parts/grid.js").Column<Tenant>[]} */
const COLUMNS = [
  { key: "name", title: "Name", cell: (tenant) => h("a", { href: href("tenants", tenant.id) }, tenant.name), by: (tenant) => tenant.name },
  { key: "status", title: "Status", cell: (tenant) => tenantStatus(tenant.status), by: (tenant) => tenant.status },
  { key: "backlog", title: "Backlog", cell: (tenant) => number(tenant.runtime?.queue_depth), by: (tenant) => tenant.runtime?.queue_depth, number: true, wide: true },
  { key: "stored", title: "Stored", cell: (tenant) => perSecond(tenant.runtime?.stored_per_second), by: (tenant) => tenant.runtime?.stored_per_second, number: true, wide: true },
  { key: "retrying", title: "Retrying", cell: (tenant) => number(tenant.runtime?.retrying), by: (tenant) => tenant.runtime?.retrying, number: true, wide: true },
  { key: "dead", title: "Dead letters", cell: (tenant) => number(tenant.runtime?.dead_letters), by: (tenant) => tenant.runtime?.dead_letters, number: true, wide: true },
  { key: "workers", title: "Workers", cell: (tenant) => number(tenant.workers), by: (tenant) => tenant.workers, number: true, wide: true },
  {
    key: "problem",
    title: "Problem",
    cell: (tenant) => (tenant.runtime?.problem ? badge(kindWords(tenant.runtime.problem.kind), "bad") : ""),
    by: (tenant) => tenant.runtime?.problem?.since,
    wide: true,
  },
  {
    key: "created",
    title: "Created",
    cell: (tenant) => h("time", { datetime: tenant.created_at, title: `${dateTime(tenant.created_at)} (${utc(tenant.created_at)})` }, date(tenant.created_at)),
    by: (tenant) => tenant.created_at,
    wide: true,
  },
];

/** @param {Tenant} tenant */
function label({ runtime, workers }) {
  const parts = [
    runtime?.queue_depth === undefined ? "" : `${brief(runtime.queue_depth)} waiting`,
    runtime?.stored_per_second === undefined ? "" : perSecond(runtime.stored_per_second),
    runtime?.dead_letters ? `${brief(runtime.dead_letters)} dead` : "",
    runtime?.problem ? kindWords(runtime.problem.kind) : "",
  ].filter(Boolean);
  return parts.join(" · ") || counted(workers, "worker");
}

/**
 * @param {AbortSignal} signal
 * @returns {import("../app/router.js").Page}
 */
export function tenantsPage(signal) {
  const wrong = trouble();
  const search = h("input", { type: "search", id: "search", placeholder: "Name or id", value: view.search, autocomplete: "off", spellcheck: "false" });
  const which = select([["all", "All"], ["active", "Active"], ["paused", "Paused"], ["problem", "With a problem"], ["dead", "With dead letters"]], view.which);
  which.id = "which";
  const count = h("p", { class: "muted", role: "status" });
  const table = grid({
    name: "Tenants",
    columns: COLUMNS,
    key: (tenant) => tenant.id,
    label,
    sort: view.sort,
    onSort: (sort) => (view.sort = sort),
    signal,
  });
  const order = select(COLUMNS.map(({ key, title }) => [key, title]), view.sort.key);
  order.id = "order";
  order.addEventListener("change", () => table.sortBy(order.value));
  const body = h("div", null, loading("tenants"));
  const element = h(
    "section",
    null,
    h("div", { class: "head" }, h("h1", null, "Tenants"), h("button", { type: "button", class: "primary", onclick: create }, "New tenant")),
    wrong.element,
    h("div", { class: "tools" }, h("div", null, h("label", { for: "search" }, "Search"), search), h("div", null, h("label", { for: "which" }, "Show"), which), h("div", { class: "narrow-only" }, h("label", { for: "order" }, "Sort by"), order), count),
    body,
  );

  /** @param {Tenant[]} all @param {boolean} isComplete */
  const draw = (all, isComplete) => {
    const wanted = view.search.trim().toLowerCase();
    const found = all.filter((tenant) => fits(tenant, view.which) && (tenant.name.toLowerCase().includes(wanted) || tenant.id.startsWith(wanted)));
    const more = isComplete ? "" : ", loading more…";
    fill(count, found.length === all.length ? `${counted(all.length, "tenant")}${more}` : `${number(found.length)} of ${counted(all.length, "tenant")}${more}`);
    if (found.length === 0 && isComplete) {
      fill(
        body,
        all.length === 0
          ? empty("No tenants yet", "A tenant has a queue of its own, workers, and a partition for its messages.", h("button", { type: "button", class: "primary", onclick: create }, "Make the first"))
          : empty("No tenant is like that", "Search for a part of its name or the beginning of its id, or show all."),
      );
      return;
    }
    if (table.element.parentElement !== body) body.replaceChildren(table.element);
    table.set(found);
  };
  /** @type {Tenant[]} */
  let sofar = fleet().tenants;
  let isComplete = fleet().readAt > 0;
  const redraw = () => draw(sofar, isComplete);
  if (isComplete) queueMicrotask(redraw);

  search.addEventListener("input", () => {
    view.search = search.value;
    redraw();
  });
  which.addEventListener("change", () => {
    view.which = which.value;
    redraw();
  });
  poll(
    async (asking) => {
      await readFleet(asking, (part) => {
        sofar = part;
        draw(part, false);
      });
      sofar = fleet().tenants;
      isComplete = true;
      wrong.clear();
      redraw();
    },
    { everyMs: pauseMs, signal, onFailure: wrong.show },
  );
  return { title: "Tenants", element };
}

/**
 * @param {Tenant} tenant
 * @param {string} which
 */
function fits(tenant, which) {
  if (which === "problem") return tenant.runtime?.problem !== undefined;
  if (which === "dead") return (tenant.runtime?.dead_letters ?? 0) > 0;
  return which === "all" || tenant.status === which;
}

function create() {
  // The same for every try, so that one that got no answer makes no second tenant.
  const id = uuid();
  const name = field("Name", h("input", { type: "text", maxlength: 200, required: true, autocomplete: "off" }), "1 to 200 characters, unlike any other tenant's.");
  const description = field("Description", h("textarea", { rows: 3, maxlength: 2000 }), "For people; may be empty.");
  const status = field("Begin", select([["active", "Active: its messages are stored"], ["paused", "Paused: its messages wait in its queue"]]));
  const body = form(
    {
      submit: "Make tenant",
      busy: "Making its queues and its partition…",
      fields: { name, description, status },
      act: async () => {
        if (!name.control.value.trim()) return name.complain("Give it a name.");
        const made = await calls.create({ id, name: name.control.value.trim(), description: description.control.value, status: status.control.value });
        box.close();
        notify(`${made.name} is there.`);
        go("tenants", made.id);
      },
    },
    name.element,
    description.element,
    status.element,
  );
  const box = open("New tenant", body.element);
  name.control.focus();
}

/** `crypto.randomUUID` is there on secure pages alone. */
function uuid() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  const hex = Array.from(bytes, (byte, at) => (at === 6 ? (byte & 0x0f) | 0x40 : at === 8 ? (byte & 0x3f) | 0x80 : byte).toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}
