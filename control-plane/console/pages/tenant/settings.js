// What an operator sets for a tenant, and its end.

import { tenants } from "../../app/calls.js";
import { forget } from "../../app/fleet.js";
import { go } from "../../app/router.js";
import { ask } from "../../parts/dialog.js";
import { h } from "../../parts/dom.js";
import { field, form } from "../../parts/field.js";
import { notify } from "../../parts/notice.js";

/** @typedef {ReturnType<typeof amount>} Amount */

/** @param {import("./page.js").Context} context */
export function settings(context) {
  return h("div", { class: "columns" }, h("div", { class: "stack" }, about(context), retention(context)), h("div", { class: "stack" }, limits(context), removal(context)));
}

/**
 * A whole number, or nothing.
 * @param {string} label
 * @param {string} hint
 * @param {number | string | undefined} value
 * @param {number} max
 */
function amount(label, hint, value, max) {
  const made = field(label, h("input", { type: "text", inputmode: "numeric", autocomplete: "off", placeholder: "no limit", value: value === undefined ? "" : String(value) }), hint);
  return {
    ...made,
    /** @returns {string | undefined} its digits; throws what is wrong, said beside it */
    read() {
      const text = made.control.value.replace(/[\s,_'’]/g, "");
      if (text === "") return undefined;
      if (!/^[0-9]+$/.test(text) || BigInt(text) < 1n || BigInt(text) > BigInt(max)) {
        const words = `Enter a whole number from 1 to ${max.toLocaleString()}, or leave it empty.`;
        made.complain(words);
        throw new Refused();
      }
      return text;
    },
  };
}

/** @param {Amount} of @returns {number | undefined} */
function whole(of) {
  const digits = of.read();
  return digits === undefined ? undefined : Number(digits);
}

/** What is wrong stands beside its field. */
class Refused extends Error {}

/**
 * @param {string} title
 * @param {string} hint
 * @param {{form: import("../../parts/field.js").Form, content: Node[]}} of
 */
function card(title, hint, { form: options, content }) {
  const act = async () => {
    try {
      await options.act();
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
    }
  };
  return h("section", { class: "card" }, h("h2", null, title), h("p", { class: "muted" }, hint), form({ ...options, act }, ...content).element);
}

/** @param {import("./page.js").Context} context */
function about({ id, now, again }) {
  const name = field("Name", h("input", { type: "text", maxlength: 200, required: true, value: now()?.name ?? "" }), "1 to 200 characters, unlike any other tenant's.");
  const description = field("Description", h("textarea", { rows: 3, maxlength: 2000 }, now()?.description ?? ""));
  return card("About", "What people call it; its id stays what it is.", {
    form: {
      submit: "Save name",
      busy: "Saving…",
      fields: { name, description },
      act: async () => {
        if (!name.control.value.trim()) return name.complain("Give it a name.");
        await tenants.update(id, { name: name.control.value.trim(), description: description.control.value });
        notify("Name and description are saved.");
        again();
      },
    },
    content: [name.element, description.element],
  });
}

/** @param {import("./page.js").Context} context */
function limits({ id, now, again }) {
  const set = now()?.limits ?? {};
  const publish = amount("Published a second", "By the API; over it a publisher is asked to wait.", set.publish_per_second, 1_000_000);
  const store = amount("Stored a second", "The others wait in its queue.", set.store_per_second, 1_000_000);
  const messages = amount("Backlog, messages", "Over it publishing is refused.", set.backlog_messages, 1_000_000_000);
  const bytes = amount("Backlog, bytes", "The same by the size of what waits.", set.backlog_bytes, 999_999_999_999);
  return card("Limits", "What it may use. What is empty is not limited.", {
    form: {
      submit: "Save limits",
      busy: "Saving…",
      fields: { publish_per_second: publish, store_per_second: store, backlog_messages: messages, backlog_bytes: bytes },
      act: async () => {
        await tenants.setLimits(id, {
          publish_per_second: whole(publish),
          store_per_second: whole(store),
          backlog_messages: whole(messages),
          backlog_bytes: bytes.read(),
        });
        notify("The limits are saved and hold from now on.");
        again();
      },
    },
    content: [publish.element, store.element, messages.element, bytes.element],
  });
}

/** @param {import("./page.js").Context} context */
function retention({ id, now, again }) {
  const set = now()?.retention ?? {};
  const age = amount("Kept for, seconds", "86,400 is a day, 2,592,000 are 30 days.", set.max_age_seconds, 1_000_000_000);
  const count = amount("Kept at most, messages", "The oldest go first.", set.max_messages, 1_000_000_000);
  for (const { control } of [age, count]) control.placeholder = "for ever";
  return card("Retention", "What is older, or more, is deleted within minutes and for good. What is empty is kept for ever.", {
    form: {
      submit: "Save retention",
      busy: "Saving…",
      fields: { max_age_seconds: age, max_messages: count },
      act: async () => {
        await tenants.setRetention(id, { max_age_seconds: whole(age), max_messages: whole(count) });
        notify("The retention is saved.");
        again();
      },
    },
    content: [age.element, count.element],
  });
}

/** @param {import("./page.js").Context} context */
function removal({ id, now }) {
  const remove = () => {
    const name = now()?.name ?? id;
    ask({
      title: `Delete ${name}?`,
      text: "Its consumer stops, its queues and everything that waits in them are deleted, and so are its stored messages, its dead letters and its credentials. Its id is never used again. This cannot be undone.",
      yes: "Delete for good",
      busy: "Deleting…",
      typed: name,
      act: async () => {
        await tenants.remove(id);
        notify(`${name} is deleted.`);
        forget();
        go("tenants");
      },
    });
  };
  return h("section", { class: "card" }, h("h2", null, "Delete"), h("p", { class: "muted" }, "The tenant and everything of it, for good."), h("div", { class: "actions" }, h("button", { type: "button", class: "danger", onclick: remove }, "Delete tenant")));
}
