// The fleet at a glance: how much flows, and what is wrong.

import { daemons } from "../app/calls.js";
import { fleet, pauseMs, readFleet, total } from "../app/fleet.js";
import { poll } from "../app/poll.js";
import { href } from "../app/router.js";
import { brief, counted, number, perSecond, trouble as kindWords } from "../app/words.js";
import { Series, chart } from "../parts/chart.js";
import { badge } from "../parts/badge.js";
import { fill, h } from "../parts/dom.js";
import { loading, sentence, trouble } from "../parts/state.js";
import { time } from "../parts/time.js";

/** @import { Daemon, Tenant } from "../app/types.js" */

const WINDOW_MS = 10 * 60_000;
const LISTED_MAX = 8;
const PROBLEMS_MAX = 50;

/** Kept while other pages are looked at. */
const stored = new Series(WINDOW_MS);
const backlog = new Series(WINDOW_MS);

/**
 * @param {AbortSignal} signal
 * @returns {import("../app/router.js").Page}
 */
export function overviewPage(signal) {
  const wrong = trouble();
  const figures = h("dl", { class: "figures" });
  const storedChart = chart("Stored", "/s", stored);
  const backlogChart = chart("Backlog", "", backlog);
  const problems = h("div", null, loading("tenants"));
  const tops = h("div", { class: "columns" });
  const element = h(
    "section",
    null,
    h("h1", null, "Overview"),
    wrong.element,
    figures,
    h("div", { class: "columns" }, storedChart.element, backlogChart.element),
    h("section", { class: "block", "aria-labelledby": "wrong-now" }, h("h2", { id: "wrong-now" }, "What is wrong now"), problems),
    tops,
  );

  /** @type {Daemon[]} */
  let alive = [];
  const draw = () => {
    const { tenants, readAt } = fleet();
    if (readAt === 0) return;
    fill(figures, summaries(tenants, alive));
    fill(problems, problemList(tenants, alive));
    fill(
      tops,
      top("Largest backlogs", tenants, (tenant) => tenant.runtime?.queue_depth, "No message waits to be stored."),
      top("Most dead letters", tenants, (tenant) => tenant.runtime?.dead_letters, "No message has failed for good."),
    );
    storedChart.draw();
    backlogChart.draw();
  };
  draw();
  poll(
    async (asking) => {
      [alive] = await Promise.all([daemons.list(asking), readFleet(asking, () => {})]);
      const { tenants } = fleet();
      stored.add(total(tenants, "stored_per_second"));
      backlog.add(total(tenants, "queue_depth"));
      wrong.clear();
      draw();
    },
    { everyMs: pauseMs, signal, onFailure: wrong.show },
  );
  return { title: "Overview", element };
}

/**
 * @param {Tenant[]} tenants
 * @param {Daemon[]} alive
 */
function summaries(tenants, alive) {
  const ready = alive.filter((daemon) => daemon.state === "ready").length;
  const paused = tenants.filter((tenant) => tenant.status === "paused").length;
  const workers = alive.reduce((sum, daemon) => sum + daemon.workers, 0);
  const dead = total(tenants, "dead_letters");
  /** @param {string} name @param {string} value @param {string} note @param {string} [to] */
  const figure = (name, value, note, to) =>
    h("div", { class: "card" }, h("dt", null, to ? h("a", { href: to }, name) : name), h("dd", null, h("span", { class: "figure" }, value), h("span", { class: "muted small" }, note)));
  return [
    figure("Daemons", number(alive.length), ready === alive.length ? `${counted(workers, "worker")} at work` : `${number(alive.length - ready)} draining`, href("daemons")),
    figure("Tenants", number(tenants.length), paused ? `${number(paused)} paused` : "none paused", href("tenants")),
    figure("Stored", perSecond(total(tenants, "stored_per_second")), "over all tenants"),
    figure("Backlog", brief(total(tenants, "queue_depth")), "waiting to be stored"),
    figure("Retrying", brief(total(tenants, "retrying")), "waiting for another try"),
    figure("Dead letters", brief(dead), dead ? "failed for good" : "none"),
  ];
}

/**
 * @param {Tenant[]} tenants
 * @param {Daemon[]} alive
 */
function problemList(tenants, alive) {
  const troubled = tenants.filter((tenant) => tenant.runtime?.problem);
  troubled.sort((one, other) => String(one.runtime?.problem?.since).localeCompare(String(other.runtime?.problem?.since)));
  const items = troubled.slice(0, PROBLEMS_MAX).map((tenant) => {
    const problem = tenant.runtime?.problem;
    return h(
      "li",
      { class: "problem" },
      h("div", { class: "problem-head" }, badge(kindWords(problem?.kind ?? ""), "bad"), h("a", { href: href("tenants", tenant.id) }, tenant.name), h("span", { class: "muted small" }, time(problem?.since, "for"))),
      h("p", null, sentence(problem?.detail ?? "")),
    );
  });
  if (alive.length === 0 && tenants.some((tenant) => tenant.status === "active")) {
    items.unshift(
      h("li", { class: "problem" }, h("div", { class: "problem-head" }, badge("Fleet", "bad"), "No daemon is alive"), h("p", null, "Messages wait in their queues and nothing is lost. Start an ingest daemon, or look in its log for why it does not reach the control plane.")),
    );
  }
  const more = troubled.length - PROBLEMS_MAX;
  if (items.length === 0) return h("p", { class: "all-well" }, badge("well", "good"), " Nothing is wrong that Jalur knows of.");
  return h("div", null, h("ul", { class: "problems" }, items), more > 0 && h("p", { class: "muted" }, `And ${number(more)} more: sort the tenants by their problem.`));
}

/**
 * @param {string} title
 * @param {Tenant[]} tenants
 * @param {(tenant: Tenant) => number | undefined} figure
 * @param {string} none
 */
function top(title, tenants, figure, none) {
  const ranked = tenants
    .map((tenant) => ({ tenant, value: figure(tenant) ?? 0 }))
    .filter(({ value }) => value > 0)
    .sort((one, other) => other.value - one.value)
    .slice(0, LISTED_MAX);
  const list =
    ranked.length === 0
      ? h("p", { class: "muted" }, none)
      : h("ol", { class: "ranking" }, ranked.map(({ tenant, value }) => h("li", null, h("a", { href: href("tenants", tenant.id) }, tenant.name), h("span", null, number(value)))));
  return h("section", { class: "card" }, h("h2", null, title), list);
}
