// A time: local to read, UTC on hover.

import { dateTime, since, timeOfDay, UNKNOWN, utc } from "../app/words.js";
import { h } from "./dom.js";

/**
 * @param {string | undefined} at
 * @param {"full" | "clock" | "ago" | "for"} [form]
 * @returns {HTMLElement}
 */
export function time(at, form = "full") {
  if (!at) return h("span", { class: "muted" }, UNKNOWN);
  const text = form === "clock" ? timeOfDay(at) : form === "ago" ? `${since(at)} ago` : form === "for" ? `for ${since(at)}` : dateTime(at);
  const title = form === "full" ? utc(at) : `${dateTime(at)} (${utc(at)})`;
  return h("time", { datetime: at, title }, text);
}
