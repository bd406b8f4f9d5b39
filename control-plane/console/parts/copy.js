// Text that can be taken along.

import { h } from "./dom.js";
import { notify } from "./notice.js";

/**
 * @param {string} text
 * @param {string} what is copied, for the button's name
 * @param {string} [words] on the button
 */
export function copyButton(text, what, words = "Copy") {
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      notify(`Copied ${what}.`, "plain");
    } catch {
      // Pages in clear on another machine's address have no clipboard.
      notify("The browser does not let this page copy. Select the text and copy it by hand.", "bad");
    }
  };
  return h("button", { type: "button", class: "quiet small", "aria-label": words === "Copy" && `Copy ${what}`, onclick: copy }, words);
}

/**
 * An id, whole for who selects it.
 * @param {string} id
 * @param {string} what
 */
export function identifier(id, what) {
  return h("span", { class: "identifier" }, h("code", null, id), copyButton(id, what));
}
