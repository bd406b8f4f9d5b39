// One dead letter: a line, and all of it when it is opened.

import { Problem, isLeft } from "../../app/api.js";
import { letters } from "../../app/calls.js";
import { fault, members } from "../../app/exact.js";
import { counted, reason as reasonWords, size } from "../../app/words.js";
import { badge } from "../../parts/badge.js";
import { copyButton, identifier } from "../../parts/copy.js";
import { ask } from "../../parts/dialog.js";
import { fill, h } from "../../parts/dom.js";
import { jsonBlock, summary } from "../../parts/json.js";
import { notify } from "../../parts/notice.js";
import { failed, loading, sentence } from "../../parts/state.js";
import { time } from "../../parts/time.js";

/** @import { DeadLetter } from "../../app/types.js" */

/**
 * @typedef {object} Around
 * @property {string} id the tenant's
 * @property {AbortSignal} signal
 * @property {Set<string>} chosen
 * @property {() => void} onChoice
 * @property {() => void} onRemoved
 * @property {(letter: DeadLetter) => void} onReplay
 * @property {(error: unknown) => void} onFailure
 */

/**
 * @param {DeadLetter} letter
 * @param {Around} around
 * @returns {HTMLElement}
 */
export function letterEntry(letter, around) {
  const { chosen, onChoice } = around;
  const box = h("input", {
    type: "checkbox",
    disabled: letter.id === "",
    "aria-label": letter.id ? `Choose the dead letter ${letter.id}` : "A dead letter without an id can only be replayed with all",
  });
  box.addEventListener("change", () => {
    if (box.checked) chosen.add(letter.id);
    else chosen.delete(letter.id);
    onChoice();
  });
  const details = h(
    "details",
    null,
    h(
      "summary",
      null,
      time(letter.failed_at),
      badge(reasonWords(letter.reason), "bad"),
      h("code", { class: "line" }, letter.encoding ? `${size(Number(letter.bytes))} that are no text` : summary(letter.payload)),
    ),
  );
  const item = h("li", { class: "choosable" }, box, details);
  details.addEventListener("toggle", () => {
    if (!details.open || details.childElementCount > 1) return;
    const room = h("div", { class: "opened" }, loading("the dead letter"));
    details.append(room);
    void whole(letter, around, item, room);
  });
  return item;
}

/**
 * @param {DeadLetter} letter as it was listed
 * @param {Around} around
 * @param {HTMLElement} item
 * @param {HTMLElement} room
 */
async function whole(letter, around, item, room) {
  const { id, signal } = around;
  try {
    const all = letter.id ? await letters.get(id, letter.id, signal) : letter;
    fill(room, opened(all, around, item, ""));
  } catch (error) {
    if (isLeft(error)) return;
    if (error instanceof Problem && error.status === 404) {
      fill(room, opened(letter, around, item, "It is not there any more: somebody has replayed or deleted it."));
    } else {
      fill(room, failed(error, () => void whole(letter, around, item, room)));
    }
  }
}

/**
 * @param {DeadLetter} letter
 * @param {Around} around
 * @param {HTMLElement} item
 * @param {string} note
 */
function opened(letter, around, item, note) {
  const { id, chosen, onRemoved, onReplay } = around;
  const isJson = !letter.encoding && !letter.truncated && fault(letter.payload) === null;
  const body = isJson ? jsonBlock(letter.payload, "Body") : h("pre", { class: "json", tabindex: "0", role: "region", "aria-label": "Body" }, letter.payload);
  const kind = letter.encoding ? `, in ${letter.encoding}` : "";
  const part = letter.truncated ? "; this is its beginning" : "";
  const remove = () =>
    ask({
      title: "Delete 1 dead letter?",
      text: "It is deleted for good, and its message is never stored.",
      yes: "Delete 1",
      busy: "Deleting…",
      act: async () => {
        await letters.remove(id, letter.id);
        chosen.delete(letter.id);
        item.remove();
        notify("1 dead letter deleted.");
        onRemoved();
      },
    });
  return [
    h("p", { class: "detail" }, sentence(letter.detail || reasonWords(letter.reason))),
    h(
      "dl",
      { class: "pairs" },
      h("dt", null, "Id"),
      h("dd", null, letter.id ? identifier(letter.id, "the message's id") : "none"),
      h("dt", null, "Tried"),
      h("dd", null, letter.attempts ? counted(letter.attempts, "time") : "not known"),
      h("dt", null, "First failed"),
      h("dd", null, time(letter.first_failed_at)),
      h("dt", null, "Failed for good"),
      h("dd", null, time(letter.failed_at)),
    ),
    h("div", { class: "opened-head" }, h("span", { class: "small muted" }, `Body: ${size(Number(letter.bytes))}${kind}${part}`), copyButton(letter.payload, "the body", "Copy body")),
    body,
    headers(letter.headers),
    note && h("p", { class: "muted small" }, note),
    h(
      "div",
      { class: "actions" },
      letter.id && h("button", { type: "button", onclick: () => onReplay(letter) }, "Replay"),
      letter.id && h("button", { type: "button", class: "danger", onclick: remove }, "Delete…"),
    ),
  ];
}

/** @param {string | undefined} all a JSON object's text */
function headers(all) {
  const pairs = [...members(all ?? "{}")];
  if (pairs.length === 0) return null;
  return h(
    "details",
    { class: "headers" },
    h("summary", null, `Headers (${pairs.length})`),
    h("dl", { class: "pairs" }, pairs.flatMap(([name, value]) => [h("dt", null, h("code", null, name)), h("dd", null, h("code", { class: "wrap" }, value.startsWith('"') ? String(JSON.parse(value)) : value))])),
  );
}
