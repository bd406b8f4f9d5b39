// A stored message in a list: a line, and all of it when it is opened.

import { identifier, copyButton } from "../../parts/copy.js";
import { h } from "../../parts/dom.js";
import { jsonBlock, summary } from "../../parts/json.js";
import { time } from "../../parts/time.js";

/**
 * @param {import("../../app/types.js").Message} message
 * @returns {HTMLElement}
 */
export function entry(message) {
  const details = h(
    "details",
    null,
    h("summary", null, time(message.created_at), h("span", { class: "position", title: "Position" }, `#${message.position}`), h("code", { class: "line" }, summary(message.payload))),
  );
  details.addEventListener("toggle", () => {
    if (!details.open || details.childElementCount > 1) return;
    details.append(
      h(
        "div",
        { class: "opened" },
        h("div", { class: "opened-head" }, identifier(message.id, "the message's id"), copyButton(message.payload, "the payload", "Copy payload")),
        jsonBlock(message.payload, `Payload of the message at position ${message.position}`),
      ),
    );
  });
  return h("li", { "data-position": message.position }, details);
}
