// Who did what to which tenant when.

import { h } from "../parts/dom.js";
import { trail } from "../parts/trail.js";

/**
 * @param {AbortSignal} signal
 * @returns {import("../app/router.js").Page}
 */
export function auditPage(signal) {
  let shown = new AbortController();
  const room = h("div");
  const tenant = h("input", { type: "search", id: "tenant-id", placeholder: "Tenant's id", autocomplete: "off", spellcheck: "false" });
  const draw = () => {
    shown.abort();
    shown = new AbortController();
    room.replaceChildren(trail(tenant.value.trim() || undefined, AbortSignal.any([signal, shown.signal])));
  };
  const tools = h("form", { class: "tools" }, h("div", null, h("label", { for: "tenant-id" }, "Done to the tenant"), tenant), h("button", { type: "submit" }, "Show"));
  tools.addEventListener("submit", (event) => {
    event.preventDefault();
    draw();
  });
  draw();
  const element = h("section", null, h("h1", null, "Audit"), h("p", { class: "muted" }, "Every call that changes something, and those that were refused, newest first."), tools, room);
  return { title: "Audit", element };
}
