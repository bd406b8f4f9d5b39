// Messages to try a tenant with.

import { messages } from "../../app/calls.js";
import { fault } from "../../app/exact.js";
import { counted } from "../../app/words.js";
import { fill, h } from "../../parts/dom.js";
import { field, form } from "../../parts/field.js";

const EXAMPLE = '{\n  "order": 1,\n  "amount": 12345678901234567890.10\n}';
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

/** @param {import("./page.js").Context} context */
export function publishing({ id, again }) {
  const payload = field("Payload", h("textarea", { rows: 5, spellcheck: "false", class: "code" }, EXAMPLE), "Any JSON value. It is sent as it stands here, its numbers to the digit.");
  const key = field("Id", h("input", { type: "text", spellcheck: "false", autocomplete: "off" }), "A UUID; optional. Under one id one message is stored.");
  const copies = field("Copies", h("input", { type: "number", min: 1, max: 1000, step: 1, value: 1, inputmode: "numeric" }), "1 to 1,000");
  const said = h("p", { role: "status", class: "small" });
  const body = form(
    {
      submit: "Publish",
      busy: "Publishing…",
      fields: { "messages[0].payload": payload, "messages[0].id": key, messages: copies },
      act: async () => {
        fill(said, "");
        const problem = fault(payload.control.value);
        if (problem !== null) return payload.complain(`This is not JSON: ${problem}.`);
        const count = Number(copies.control.value);
        if (!Number.isInteger(count) || count < 1 || count > 1000) return copies.complain("Enter a whole number from 1 to 1,000.");
        const wanted = key.control.value.trim();
        if (wanted && !UUID.test(wanted)) return key.complain("Write it as a UUID, such as 01a1fc36-7568-706a-825c-b224156fc999, or leave it empty.");
        if (wanted && count > 1) return key.complain("One id is one message: set copies to 1, or leave the id empty.");
        const { ids } = await messages.publish(id, payload.control.value.trim(), Array.from({ length: count }, () => wanted));
        fill(said, `The broker has confirmed ${counted(ids.length, "message")}. `, ids.length === 1 && h("code", null, ids[0]));
        again();
      },
    },
    payload.element,
    h("div", { class: "row" }, key.element, copies.element),
  );
  return h("section", { class: "card", "aria-labelledby": "publish" }, h("h2", { id: "publish" }, "Publish a test message"), body.element, said);
}
