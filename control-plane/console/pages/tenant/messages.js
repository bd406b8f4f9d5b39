// A tenant's stored messages: the newest first, filtered, and as they come.

import { Problem, isLeft } from "../../app/api.js";
import { messages } from "../../app/calls.js";
import { fault } from "../../app/exact.js";
import { fill, h } from "../../parts/dom.js";
import { field, form, working } from "../../parts/field.js";
import { empty, failed, loading, sentence } from "../../parts/state.js";
import { entry } from "./entry.js";
import { tail } from "./tail.js";

/** @import { Message } from "../../app/types.js" */

const PAGE = 50;
/** So many are kept on the page while it follows; what is older is still there to be read. */
const SHOWN_MAX = 500;

/** @param {import("./page.js").Context} context */
export function messagesSection({ id, signal }) {
  const list = h("ol", { class: "feed", "aria-label": "Messages, newest first" });
  const more = h("button", { type: "button" }, "Older");
  const foot = h("div", { class: "actions", hidden: true }, more);
  const state = h("div");
  /** @type {import("../../app/calls.js").Filter} */
  let filter = {};
  let asked = new AbortController();

  /** @param {Message[]} some @param {boolean} atEnd */
  const append = (some, atEnd) => {
    list.append(...some.map(entry));
    foot.hidden = list.childElementCount === 0;
    more.disabled = atEnd;
    more.textContent = atEnd ? "That is all" : "Older";
    const isFiltered = Object.keys(filter).length > 0;
    if (list.childElementCount > 0) fill(state);
    else if (!atEnd) fill(state, empty("Nothing yet", "None of the messages that were looked through is like that. Go on, or widen the filter.", more));
    else fill(state, isFiltered ? empty("No message is like that", "Widen the filter, or show all.") : empty("No messages yet", "Publish one to the tenant's queue, or from the Activity section, and follow it here."));
    if (!foot.contains(more) && list.childElementCount > 0) foot.append(more);
  };

  /** Where the next page begins; a page that was filtered may be empty and not the end. */
  let cursor = "";
  const next = async () => {
    const mine = AbortSignal.any([signal, asked.signal]);
    const page = await messages.list(id, { cursor, limit: PAGE, order: "newest", ...filter }, mine);
    cursor = page.cursor;
    append(page.data, page.atEnd);
  };
  const first = async () => {
    asked.abort();
    asked = new AbortController();
    cursor = "";
    list.replaceChildren();
    foot.hidden = true;
    fill(state, loading("messages"));
    try {
      await next();
    } catch (error) {
      if (isLeft(error)) return;
      if (error instanceof Problem && error.status === 400 && Object.keys(filter).length > 0) {
        fill(state);
        throw error;
      }
      fill(state, failed(error, () => void first()));
    }
  };
  more.addEventListener("click", async () => {
    const label = more.textContent;
    await working(more, "Loading…", next, (error) => {
      if (isLeft(error)) return;
      more.textContent = label;
      fill(state, failed(error));
    });
    if (more.textContent === "That is all") more.disabled = true;
  });

  const live = tail({
    id,
    signal,
    from: () => /** @type {HTMLElement | null} */ (list.firstElementChild)?.dataset.position ?? "0",
    onStart: async () => {
      filters.clear();
      if (Object.keys(filter).length === 0 && list.childElementCount > 0) return;
      filter = {};
      await first();
    },
    onMessages: (some) => {
      fill(state);
      list.prepend(...some.slice(-SHOWN_MAX).reverse().map(entry));
      while (list.childElementCount > SHOWN_MAX) list.lastElementChild?.remove();
      // The list ends elsewhere now, and older ones go on from there.
      cursor = /** @type {HTMLElement | null} */ (list.lastElementChild)?.dataset.position ?? "";
      foot.hidden = false;
      if (!foot.contains(more)) foot.append(more);
      if (more.textContent === "That is all" && list.childElementCount === SHOWN_MAX) {
        more.textContent = "Older";
        more.disabled = false;
      }
    },
  });
  const filters = filtering(async (wanted) => {
    live.stop();
    filter = wanted;
    await first();
  });

  void first();
  return h("div", null, h("div", { class: "tools" }, live.element), filters.element, state, list, foot);
}

/** @param {(filter: import("../../app/calls.js").Filter) => Promise<void>} apply */
function filtering(apply) {
  const contains = field("Payload contains", h("input", { type: "text", spellcheck: "false", autocomplete: "off", class: "code", placeholder: '{"order": 1}' }), "JSON; found are payloads that hold it, members or elements beside.");
  const after = field("Stored after", h("input", { type: "datetime-local", step: 1 }), "Your local time");
  const before = field("Stored before", h("input", { type: "datetime-local", step: 1 }), "Your local time");
  const body = form(
    {
      submit: "Filter",
      busy: "Looking…",
      fields: { contains, created_after: after, created_before: before },
      act: async () => {
        /** @type {import("../../app/calls.js").Filter} */
        const wanted = {};
        const json = contains.control.value.trim();
        const problem = json && fault(json);
        if (problem) return contains.complain(sentence(`this is not JSON: ${problem}`));
        if (json) wanted.contains = json;
        if (after.control.value) wanted.created_after = new Date(after.control.value).toISOString();
        if (before.control.value) wanted.created_before = new Date(before.control.value).toISOString();
        await apply(wanted);
      },
    },
    h("div", { class: "row" }, contains.element, after.element, before.element),
  );
  const all = h("button", { type: "button" }, "Show all");
  body.button.before(all);
  const element = h("details", { class: "card filters" }, h("summary", null, "Filter"), body.element);
  const clear = () => body.element.reset();
  all.addEventListener("click", () => {
    clear();
    void apply({});
  });
  return { element, clear };
}
