// Questions and forms in front of the page.

import { form } from "./field.js";
import { h } from "./dom.js";

/**
 * Shows `content` until it is closed. Escape and the button close it.
 * @param {string} title
 * @param {...Node} content
 */
export function open(title, ...content) {
  const close = () => dialog.close();
  const dialog = h(
    "dialog",
    { "aria-label": title },
    h("div", { class: "dialog-head" }, h("h2", null, title), h("button", { type: "button", class: "bare", "aria-label": "Close", onclick: close }, "×")),
    content,
  );
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
  return { close, dialog };
}

/**
 * @typedef {object} Question
 * @property {string} title
 * @property {string} text what will happen, with its number
 * @property {string} yes the button's text
 * @property {string} [busy]
 * @property {string} [typed] what is to be typed before, for what cannot be undone
 * @property {() => Promise<void>} act the dialog closes when it is done, and stays with what failed
 */

/** @param {Question} question */
export function ask({ title, text, yes, busy, typed, act }) {
  const proof = h("input", { type: "text", autocomplete: "off", spellcheck: "false", id: "dialog-proof" });
  const check = typed === undefined ? [] : [h("div", { class: "field" }, h("label", { for: "dialog-proof" }, `Type “${typed}” to confirm`), proof)];
  const body = form(
    {
      submit: yes,
      busy,
      act: async () => {
        if (typed !== undefined && proof.value.trim() !== typed) throw new Error(`Type “${typed}”, exactly as it stands here.`);
        await act();
        box.close();
      },
    },
    h("p", null, text),
    ...check,
  );
  body.button.classList.replace("primary", "danger");
  const cancel = h("button", { type: "button", onclick: () => box.close() }, "Cancel");
  body.button.before(cancel);
  const box = open(title, body.element);
  // What Enter does is to be the harmless thing.
  (typed === undefined ? cancel : proof).focus();
}
