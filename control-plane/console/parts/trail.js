// The audit trail, newest first, page by page.

import { audit } from "../app/calls.js";
import { isLeft } from "../app/api.js";
import { fleet } from "../app/fleet.js";
import { href } from "../app/router.js";
import { counted, role } from "../app/words.js";
import { badge } from "./badge.js";
import { fill, h } from "./dom.js";
import { working } from "./field.js";
import { empty, failed, loading } from "./state.js";
import { time } from "./time.js";

/** @import { AuditEvent } from "../app/types.js" */

/**
 * @param {string | undefined} tenant only what was done to it
 * @param {AbortSignal} signal
 */
export function trail(tenant, signal) {
  const rows = h("tbody");
  const table = h(
    "div",
    { class: "scroll", tabindex: "0", role: "region", "aria-label": "Audit trail" },
    h("table", { class: "list" }, h("thead", null, h("tr", null, ["When", "Who", "What", tenant ? null : "Tenant", "How it ended"].map((title) => title && h("th", { scope: "col" }, title)))), rows),
  );
  const more = h("button", { type: "button" }, "Older");
  const body = h("div", null, loading("the audit trail"));
  let cursor = "0";

  const next = async () => {
    const page = await audit({ cursor, tenant_id: tenant }, signal);
    cursor = page.next_cursor;
    rows.append(...page.data.map((event) => row(event, tenant === undefined)));
    if (rows.childElementCount === 0) return fill(body, empty("Nothing yet", "Every call that changes something is listed here, and those that were refused."));
    if (table.parentElement !== body) fill(body, table, h("div", { class: "actions" }, more));
    if (page.data.length === 0) {
      more.disabled = true;
      more.textContent = "That is all";
    }
  };
  const first = () => {
    fill(body, loading("the audit trail"));
    cursor = "0";
    rows.replaceChildren();
    next().catch((error) => isLeft(error) || fill(body, failed(error, first)));
  };
  more.addEventListener("click", async () => {
    await working(more, "Loading…", next, (error) => isLeft(error) || body.append(failed(error)));
    if (more.textContent === "That is all") more.disabled = true;
  });
  first();
  return body;
}

/**
 * @param {AuditEvent} event
 * @param {boolean} withTenant
 */
function row(event, withTenant) {
  const call = event.method.split("/").at(-1) ?? event.method;
  const words = call.replace(/([a-z])([A-Z])/g, "$1 $2");
  const name = fleet().tenants.find((tenant) => tenant.id === event.tenant_id)?.name;
  const who = event.sub ?? "no good token";
  const by = [event.role && role(event.role), event.address].filter(Boolean).join(", ");
  return h(
    "tr",
    null,
    h("td", { class: "nowrap" }, time(event.at)),
    h("td", null, h("div", null, who), h("div", { class: "muted small nowrap" }, by)),
    h("td", null, h("div", null, words.charAt(0) + words.slice(1).toLowerCase()), event.summary && h("div", { class: "muted small wrap" }, event.summary)),
    withTenant && h("td", null, event.tenant_id ? h("a", { href: href("tenants", event.tenant_id), title: event.tenant_id }, name ?? `${event.tenant_id.slice(0, 8)}…`) : ""),
    h("td", null, ending(event.code), event.message && h("div", { class: "muted small wrap" }, event.message), Number(event.left_out) > 0 && h("div", { class: "muted small" }, `${counted(Number(event.left_out), "refused call")} before it left out`)),
  );
}

/** @param {string | undefined} code */
function ending(code) {
  if (!code) return badge("not known", "warn");
  return code === "OK" ? badge("done", "good") : badge(code.replaceAll("_", " ").toLowerCase(), "bad");
}
