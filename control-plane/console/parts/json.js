// A JSON value to read: its numbers to the digit, as they came.

import { fault, oneLine, pretty } from "../app/exact.js";
import { h } from "./dom.js";

/** More pieces than this are shown in one colour: an element for each would take seconds. */
const COLOURED_MAX = 4_000;

/**
 * @param {string} text
 * @param {string} name what it is, for who cannot see it
 */
export function jsonBlock(text, name) {
  const block = h("pre", { class: "json", tabindex: "0", role: "region", "aria-label": name });
  if (fault(text) !== null) {
    block.textContent = text;
    return block;
  }
  let plain = "";
  let pieces = 0;
  for (const { kind, text: piece } of pretty(text)) {
    pieces += 1;
    const colour = pieces <= COLOURED_MAX && (kind === "key" || kind === "string" || kind === "number" || kind === "word");
    if (!colour) {
      plain += piece;
      continue;
    }
    block.append(plain, h("span", { class: `json-${kind}` }, piece));
    plain = "";
  }
  block.append(plain);
  return block;
}

/**
 * The beginning of a value, in one line; of what is no JSON, of the text itself.
 * @param {string} text
 */
export function summary(text) {
  const max = 240;
  if (fault(text) === null) return oneLine(text, max);
  return text.length > max ? `${text.slice(0, max)}…` : text;
}
