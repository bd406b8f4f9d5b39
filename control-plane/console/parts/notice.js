// A word at the bottom of the page on how something went.

import { byId, h } from "./dom.js";

const LASTS_MS = 8_000;
const SHOWN_MAX = 3;

/**
 * @param {string} text
 * @param {"good" | "bad" | "plain"} [tone]
 */
export function notify(text, tone = "good") {
  const room = byId("notices");
  const note = h("div", { class: `note ${tone}` }, h("span", null, text));
  const close = () => note.remove();
  note.append(h("button", { type: "button", class: "bare", "aria-label": "Dismiss", onclick: close }, "×"));
  room.append(note);
  while (room.childElementCount > SHOWN_MAX) room.firstElementChild?.remove();
  // Bad news stays until it is read.
  if (tone !== "bad") setTimeout(close, LASTS_MS);
}
