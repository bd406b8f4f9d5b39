// A tenant's credentials: made, with the secret shown once, and revoked.

import { isLeft } from "../../app/api.js";
import { credentials } from "../../app/calls.js";
import { role } from "../../app/words.js";
import { badge } from "../../parts/badge.js";
import { copyButton, identifier } from "../../parts/copy.js";
import { ask, open } from "../../parts/dialog.js";
import { fill, h } from "../../parts/dom.js";
import { checkbox, field, form, select } from "../../parts/field.js";
import { notify } from "../../parts/notice.js";
import { empty, failed, loading } from "../../parts/state.js";
import { time } from "../../parts/time.js";

/** @import { Credential, NewCredential } from "../../app/types.js" */

/** @param {import("./page.js").Context} context */
export function credentialsSection({ id, signal }) {
  const body = h("div", null, loading("credentials"));

  const load = async () => {
    try {
      const { credentials: all } = await credentials.list(id, signal);
      fill(body, all.length === 0 ? empty("No credentials", "A credential is what the tenant's programs, or its people on this page, sign in with.") : list(all));
    } catch (error) {
      if (!isLeft(error)) fill(body, failed(error, () => void load()));
    }
  };

  /** @param {Credential[]} all */
  const list = (all) =>
    h(
      "div",
      { class: "scroll", tabindex: "0", role: "region", "aria-label": "Credentials" },
      h(
        "table",
        { class: "list" },
        h("thead", null, h("tr", null, ["Label", "Client id", "Role", "Made", "Last used", ""].map((title) => (title ? h("th", { scope: "col" }, title) : h("td"))))),
        h("tbody", null, all.map(row)),
      ),
    );

  /** @param {Credential} credential */
  const row = (credential) =>
    h(
      "tr",
      null,
      h("td", null, credential.label || h("span", { class: "muted" }, "no label"), " ", credential.amqp && badge("RabbitMQ login", "plain")),
      h("td", null, identifier(credential.client_id, "the client id")),
      h("td", null, role(credential.role)),
      h("td", { class: "nowrap" }, time(credential.created_at)),
      h("td", { class: "nowrap" }, credential.last_used_at ? time(credential.last_used_at, "ago") : h("span", { class: "muted" }, "never")),
      h("td", { class: "number" }, h("button", { type: "button", class: "small", onclick: () => revoke(credential) }, "Revoke")),
    );

  /** @param {Credential} credential */
  const revoke = (credential) =>
    ask({
      title: "Revoke this credential?",
      text: `${credential.label || credential.client_id} buys no more tokens, and those that it has bought are refused within seconds.${credential.amqp ? " Its connections to RabbitMQ are closed." : ""} This cannot be undone.`,
      yes: "Revoke",
      busy: "Revoking…",
      act: async () => {
        await credentials.revoke(id, credential.client_id);
        notify("The credential is revoked.");
        await load();
      },
    });

  const create = () => {
    const label = field("Label", h("input", { type: "text", maxlength: 100, autocomplete: "off" }), "What it is for, in your words.");
    const what = field("Role", select([["tenant", "Tenant: publish and read"], ["tenant_admin", "Tenant administrator: workers, dead letters and credentials, too"]]));
    const amqp = checkbox("A login at RabbitMQ, too", "It may publish to the tenant's exchange, and do nothing else.");
    const made = form(
      {
        submit: "Make credential",
        busy: "Making…",
        fields: { label, role: what },
        act: async () => {
          const credential = await credentials.create(id, { role: what.control.value, label: label.control.value.trim(), amqp: amqp.control.checked });
          box.close();
          secret(credential);
          await load();
        },
      },
      label.element,
      what.element,
      amqp.element,
    );
    const box = open("New credential", made.element);
    label.control.focus();
  };

  void load();
  return h("div", null, h("div", { class: "tools" }, h("button", { type: "button", class: "primary", onclick: create }, "New credential")), body);
}

/** @param {NewCredential} credential */
function secret(credential) {
  /** @param {string} name @param {string} text */
  const pair = (name, text) => [h("dt", null, name), h("dd", null, h("code", { class: "wrap" }, text), " ", copyButton(text, name.toLowerCase()))];
  const done = h("button", { type: "button", class: "primary", onclick: () => box.close() }, "I have kept it");
  const box = open(
    "Keep this secret now",
    h("p", null, "It is shown this once: only a hash of it is stored, and nobody can show it again."),
    h("dl", { class: "pairs secret" }, pair("Client id", credential.client_id), pair("Client secret", credential.client_secret), credential.amqp ? [...pair("RabbitMQ URL", credential.amqp.url), ...pair("Exchange", credential.amqp.exchange)] : []),
    h("div", { class: "actions" }, done),
  );
  // Escape would lose what cannot be had again.
  box.dialog.addEventListener("cancel", (event) => event.preventDefault());
  done.focus();
}
