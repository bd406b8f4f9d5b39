// What stands where there is nothing to show: not yet, nothing there, or it failed.

import { Problem } from "../app/api.js";
import { h } from "./dom.js";

/** @param {string} what */
export function loading(what) {
  return h("p", { class: "state loading", role: "status" }, h("span", { class: "spinner", "aria-hidden": "true" }), `Loading ${what}…`);
}

/**
 * @param {string} title
 * @param {string} hint what to do about it
 * @param {...Node} actions
 */
export function empty(title, hint, ...actions) {
  return h("div", { class: "state" }, h("p", { class: "state-title" }, title), h("p", { class: "muted" }, hint), actions);
}

/**
 * @param {unknown} error
 * @param {() => void} [again]
 */
export function failed(error, again) {
  const button = again && h("button", { type: "button", onclick: again }, "Try again");
  return h("div", { class: "state failed", role: "alert" }, words(error), h("div", null, button));
}

/** @param {unknown} error */
function words(error) {
  const message = error instanceof Error ? error.message : String(error);
  const request = error instanceof Problem ? error.requestId : "";
  return h("div", null, h("p", null, sentence(message)), request && h("p", { class: "muted small" }, `Request ${request}`));
}

/**
 * The control plane's messages begin in lower case, as parts of a line.
 * @param {string} message
 */
export function sentence(message) {
  const text = message.charAt(0).toUpperCase() + message.slice(1);
  return /[.!?…]$/.test(text) ? text : `${text}.`;
}

/** A line above a page's content that says what is wrong while what was known before still stands there. */
export function trouble() {
  const element = h("div", { class: "banner bad", role: "alert", hidden: true });
  return {
    element,
    /** @param {unknown} error */
    show(error) {
      element.replaceChildren(words(error));
      element.hidden = false;
    },
    clear() {
      if (element.hidden) return;
      element.hidden = true;
      element.replaceChildren();
    },
  };
}
