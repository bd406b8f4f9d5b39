// How much of something is used, or done.

import { h } from "./dom.js";

/** @param {string} name */
export function meter(name) {
  const bar = h("progress", { max: 1, value: 0, "aria-label": name });
  const text = h("span", { class: "small" });
  return {
    element: h("div", { class: "meter" }, bar, text),
    /**
     * @param {number} value
     * @param {number} max
     * @param {string} words
     */
    set(value, max, words) {
      bar.max = Math.max(max, 1);
      bar.value = Math.min(value, bar.max);
      text.textContent = words;
    },
  };
}
