// What flows for a tenant, who works on it, and a message to try it with.

import { tenants } from "../../app/calls.js";
import { href } from "../../app/router.js";
import { may } from "../../app/session.js";
import { brief, counted, number } from "../../app/words.js";
import { badge } from "../../parts/badge.js";
import { chart } from "../../parts/chart.js";
import { fill, h } from "../../parts/dom.js";
import { field, form } from "../../parts/field.js";
import { meter } from "../../parts/meter.js";
import { time } from "../../parts/time.js";
import { publishing } from "./publish.js";

/** @param {import("./page.js").Context} context */
export function activity(context) {
  const { figures, watch } = context;
  const stored = chart("Stored", "/s", figures.stored);
  const backlog = chart("Backlog", "", figures.backlog);
  const numbers = h("dl", { class: "figures" });
  watch((tenant) => {
    stored.draw();
    backlog.draw();
    const { runtime } = tenant;
    /** @param {string | Node} name @param {string} value @param {string} note */
    const figure = (name, value, note) => h("div", { class: "card" }, h("dt", null, name), h("dd", null, h("span", { class: "figure" }, value), h("span", { class: "muted small" }, note)));
    fill(
      numbers,
      figure("Retrying", brief(runtime?.retrying), "waiting for another try"),
      figure(may("letters") ? h("a", { href: href("tenants", tenant.id, "dead-letters") }, "Dead letters") : "Dead letters", brief(runtime?.dead_letters), "failed for good"),
    );
  });
  return h(
    "div",
    null,
    h("div", { class: "columns" }, stored.element, backlog.element),
    numbers,
    h("div", { class: "columns" }, workers(context), may("publish") && publishing(context)),
    facts(context),
  );
}

/** @param {import("./page.js").Context} context */
function workers({ id, watch, again, now }) {
  const list = h("tbody");
  const state = h("p", { role: "status", class: "small" });
  const set = h("span", { class: "figure" });
  watch((tenant) => {
    fill(set, number(tenant.workers));
    const consumers = tenant.runtime?.consumers ?? [];
    if (consumers.length === 0) {
      const why = tenant.status === "paused" ? "The tenant is paused." : "No daemon consumes its queue at the moment.";
      fill(list, h("tr", null, h("td", { colspan: 3, class: "muted" }, why)));
      return;
    }
    fill(
      list,
      consumers.map((consumer) => {
        const busy = meter(`Busy workers on ${consumer.daemon}`);
        busy.set(consumer.busy, consumer.workers, `${number(consumer.busy)} busy`);
        return h("tr", null, h("td", null, consumer.daemon), h("td", { class: "number" }, number(consumer.workers)), h("td", null, busy.element));
      }),
    );
  });
  const table = h(
    "table",
    { class: "list" },
    h("thead", null, h("tr", null, h("th", { scope: "col" }, "Daemon"), h("th", { scope: "col", class: "number" }, "Workers"), h("th", { scope: "col" }, "At work"))),
    list,
  );

  const input = h("input", { type: "number", min: 1, max: 256, step: 1, required: true, inputmode: "numeric" });
  input.value = String(now()?.workers ?? 1);
  const count = field("Set to", input, "1 to 256, over all daemons; nothing is reconnected.");
  const change = form(
    {
      submit: "Set workers",
      busy: "Applying…",
      fields: { workers: count },
      act: async () => {
        const wanted = Number(input.value);
        if (!Number.isInteger(wanted) || wanted < 1 || wanted > 256) return count.complain("Enter a whole number from 1 to 256.");
        fill(state, "");
        const { workers: many, applied } = await tenants.setWorkers(id, wanted);
        fill(state, applied ? badge("applied", "good") : badge("not applied yet", "warn"), applied ? ` ${counted(many, "worker")} on every daemon that runs it.` : " It is kept, and reaches the daemons as soon as they can be reached.");
        again();
      },
    },
    count.element,
  );
  return h("section", { class: "card", "aria-labelledby": "workers" }, h("div", { class: "card-head" }, h("h2", { id: "workers" }, "Workers"), set), table, may("workers") && h("div", { class: "inline-form" }, change.element), state);
}

/** @param {import("./page.js").Context} context */
function facts({ watch }) {
  const list = h("dl", { class: "pairs" });
  watch((tenant) => {
    const limits = tenant.limits ?? {};
    const set = [
      limits.publish_per_second && `publishing ${number(limits.publish_per_second)}/s`,
      limits.store_per_second && `storing ${number(limits.store_per_second)}/s`,
      limits.backlog_messages && `backlog ${counted(limits.backlog_messages, "message")}`,
      limits.backlog_bytes && `backlog ${number(Number(limits.backlog_bytes))} bytes`,
    ].filter(Boolean);
    fill(
      list,
      h("dt", null, "Queue"),
      h("dd", null, h("code", null, `tenant_${tenant.id}_queue`)),
      h("dt", null, "Limits"),
      h("dd", null, set.length > 0 ? set.join(", ") : "none"),
      h("dt", null, "Created"),
      h("dd", null, time(tenant.created_at)),
      h("dt", null, "Changed"),
      h("dd", null, time(tenant.updated_at)),
    );
  });
  return h("section", { class: "card", "aria-labelledby": "facts" }, h("h2", { id: "facts" }, "About"), list);
}
