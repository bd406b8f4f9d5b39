// A form's field: label, control, what it is for, and what is wrong with it.

import { Problem } from "../app/api.js";
import { sentence } from "./state.js";
import { h } from "./dom.js";

let count = 0;

/**
 * @template {HTMLInputElement | HTMLTextAreaElement | HTMLSelectElement} Control
 * @param {string} label
 * @param {Control} control
 * @param {string} [hint]
 */
export function field(label, control, hint = "") {
  count += 1;
  control.id ||= `field-${count}`;
  const hintId = `${control.id}-hint`;
  const errorId = `${control.id}-error`;
  control.setAttribute("aria-describedby", `${hintId} ${errorId}`);
  const error = h("p", { class: "field-error", id: errorId, role: "alert" });
  const element = h(
    "div",
    { class: "field" },
    h("label", { for: control.id }, label),
    control,
    h("p", { class: "hint", id: hintId }, hint),
    error,
  );
  /** @param {string} text */
  const complain = (text) => {
    error.textContent = text;
    if (text) control.setAttribute("aria-invalid", "true");
    else control.removeAttribute("aria-invalid");
  };
  control.addEventListener("input", () => complain(""));
  return { element, control, complain };
}

/**
 * @param {string} label
 * @param {string} [hint]
 */
export function checkbox(label, hint = "") {
  count += 1;
  const id = `field-${count}`;
  const control = h("input", { type: "checkbox", id, "aria-describedby": `${id}-hint` });
  const element = h(
    "div",
    { class: "field check" },
    control,
    h("div", null, h("label", { for: id }, label), h("p", { class: "hint", id: `${id}-hint` }, hint)),
  );
  return { element, control };
}

/**
 * @param {[value: string, text: string][]} options
 * @param {string} [chosen]
 */
export function select(options, chosen) {
  return h(
    "select",
    null,
    options.map(([value, text]) => h("option", { value, selected: value === chosen }, text)),
  );
}

/**
 * @typedef {object} Form
 * @property {Record<string, {complain: (text: string) => void}>} [fields] by their names in the API
 * @property {string} submit the button's text
 * @property {string} [busy] its text while it works
 * @property {() => Promise<void>} act a `Problem` is told beside the field that it names, or below
 */

/**
 * A form around `content`, which sends once at a time.
 * @param {Form} form
 * @param {...Node} content
 */
export function form({ fields = {}, submit, busy = "Working…", act }, ...content) {
  const error = h("p", { class: "field-error", role: "alert" });
  const button = h("button", { type: "submit", class: "primary" }, submit);
  const element = h("form", { novalidate: true, class: "form" }, content, error, h("div", { class: "actions" }, button));
  element.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (button.disabled) return;
    error.textContent = "";
    for (const one of Object.values(fields)) one.complain("");
    button.disabled = true;
    button.textContent = busy;
    try {
      await act();
    } catch (failure) {
      if (!(failure instanceof Error)) throw failure;
      const blamed = failure instanceof Problem ? fields[failure.field] : undefined;
      if (blamed) blamed.complain(sentence(failure.message));
      else error.textContent = sentence(failure.message);
      /** @type {HTMLElement | null} */ (element.querySelector("[aria-invalid]"))?.focus();
    } finally {
      button.disabled = false;
      button.textContent = submit;
    }
  });
  return { element, button };
}

/**
 * Runs what a button does, once at a time, and says what failed.
 * @param {HTMLButtonElement} button
 * @param {string} busy
 * @param {() => Promise<void>} act
 * @param {(error: unknown) => void} onFailure
 */
export async function working(button, busy, act, onFailure) {
  if (button.disabled) return;
  const text = button.textContent;
  button.disabled = true;
  button.textContent = busy;
  try {
    await act();
  } catch (error) {
    onFailure(error);
  } finally {
    button.disabled = false;
    // Unless `act` has said something else meanwhile.
    if (button.textContent === busy) button.textContent = text;
  }
}
