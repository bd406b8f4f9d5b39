// Signing in, with a token or with a credential.

import { buyToken, whose } from "../app/calls.js";
import { begin, claims } from "../app/session.js";
import { h } from "../parts/dom.js";
import { field, form } from "../parts/field.js";
import { sentence } from "../parts/state.js";

/**
 * Begins a session with a token that is good.
 * @param {string} token
 */
export async function signIn(token) {
  const says = claims(token);
  const { role, tenant } = await whose(token, says);
  const ends = typeof says.exp === "number" ? says.exp * 1000 : null;
  begin({ token, role, tenant, sub: String(says.sub ?? ""), ends });
}

const done = () => window.dispatchEvent(new Event("signed-in"));

/**
 * @param {string} word what is to be said first
 * @returns {import("../app/router.js").Page}
 */
export function signInPage(word) {
  const token = field(
    "Token",
    h("textarea", { rows: 4, autocomplete: "off", spellcheck: "false", autocapitalize: "off", required: true }),
    "A JWT, such as your operator or “control-plane token” gives you.",
  );
  const byToken = form(
    {
      submit: "Sign in",
      busy: "Signing in…",
      act: async () => {
        const given = token.control.value.trim().replace(/^Bearer\s+/i, "");
        if (!/^[\w-]+\.[\w-]+\.[\w-]+$/.test(given)) {
          return token.complain("A token is three parts with dots between them. Paste the whole of it.");
        }
        await signIn(given);
        done();
      },
    },
    token.element,
  );

  const id = field("Client id", h("input", { type: "text", autocomplete: "username", spellcheck: "false", autocapitalize: "off", required: true }));
  const secret = field("Client secret", h("input", { type: "password", autocomplete: "current-password", required: true }));
  const byCredential = form(
    {
      submit: "Sign in",
      busy: "Signing in…",
      fields: { client_id: id, client_secret: secret },
      act: async () => {
        if (!id.control.value.trim()) return id.complain("Enter the credential's client id.");
        if (!secret.control.value) return secret.complain("Enter the secret that was shown when the credential was made.");
        await signIn(await buyToken(id.control.value.trim(), secret.control.value.trim()));
        done();
      },
    },
    id.element,
    secret.element,
  );

  const panels = { token: byToken.element, credential: byCredential.element };
  /** @param {"token" | "credential"} chosen */
  const choose = (chosen) => {
    panels.token.hidden = chosen !== "token";
    panels.credential.hidden = chosen !== "credential";
  };
  /** @param {"token" | "credential"} value @param {string} text */
  const choice = (value, text) =>
    h("label", { class: "choice" }, h("input", { type: "radio", name: "way", value, checked: value === "credential", onchange: () => choose(value) }), h("span", null, text));
  choose("credential");

  const element = h(
    "section",
    { class: "sign-in" },
    h("div", { class: "card" },
      h("h1", null, "Sign in"),
      word && h("p", { class: "banner bad", role: "alert" }, sentence(word)),
      h("fieldset", { class: "choices" }, h("legend", { class: "sr-only" }, "Sign in with"), choice("credential", "Credential"), choice("token", "Token")),
      panels.credential,
      panels.token,
      h("p", { class: "muted small" }, "You stay signed in in this tab, until it is closed or the token ends."),
    ),
  );
  return { title: "Sign in", element };
}
