// A word in a frame: the colour only says again what the word says.

import { h } from "./dom.js";

/**
 * @param {string} text
 * @param {"good" | "warn" | "bad" | "plain"} tone
 */
export const badge = (text, tone) => h("span", { class: `badge ${tone}` }, text);

/** @param {string} status */
export function tenantStatus(status) {
  const tones = /** @type {const} */ ({ active: "good", paused: "warn" });
  return badge(status, tones[/** @type {"active" | "paused"} */ (status)] ?? "plain");
}

/** @param {string} state */
export const daemonState = (state) => badge(state, state === "ready" ? "good" : "warn");
