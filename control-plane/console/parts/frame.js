// What stands around every page: the mark, the ways, who is signed in, and light or dark.

import { session, may } from "../app/session.js";
import { href } from "../app/router.js";
import { setTheme, theme, themeWord } from "../app/theme.js";
import { dateTime, role } from "../app/words.js";
import { byId, h } from "./dom.js";
import { logo } from "./logo.js";

/** @typedef {import("../app/theme.js").Theme} Theme */

const NEXT = /** @type {Record<Theme, Theme>} */ ({ system: "light", light: "dark", dark: "system" });

/**
 * @param {string[]} path where one is
 * @param {() => void} leave
 */
export function frame(path, leave) {
  const signedIn = session();
  const ways = may("tenants")
    ? /** @type {[string, string[]][]} */ ([["Overview", []], ["Tenants", ["tenants"]], ["Daemons", ["daemons"]], ["Audit", ["audit"]]])
    : [];
  const nav = h(
    "nav",
    { "aria-label": "Pages" },
    ways.map(([text, to]) => h("a", { href: href(...to), "aria-current": (path[0] ?? "") === (to[0] ?? "") && "page" }, text)),
  );
  const who =
    signedIn &&
    h(
      "span",
      { class: "who", title: signedIn.ends ? `${signedIn.sub}, until ${dateTime(signedIn.ends)}` : signedIn.sub },
      role(signedIn.role),
    );
  byId("header").replaceChildren(
    h(
      "div",
      { class: "bar" },
      h("a", { href: href(), class: "home", "aria-label": "Jalur, start" }, logo()),
      ways.length > 0 ? nav : "",
      h("div", { class: "side" }, who, themeButton(), signedIn && h("button", { type: "button", class: "quiet", onclick: leave }, "Sign out")),
    ),
  );
  if (byId("footer").childElementCount === 0) void footer();
}

function themeButton() {
  const button = h("button", { type: "button", class: "quiet" });
  const tell = () => {
    button.textContent = themeWord(theme());
    button.setAttribute("aria-label", `Colours: ${themeWord(theme())}. Change them`);
    button.title = "Colours: automatic, light or dark";
  };
  button.addEventListener("click", () => {
    setTheme(NEXT[theme()]);
    tell();
  });
  tell();
  return button;
}

async function footer() {
  const room = byId("footer");
  room.append(h("span", null, "Times are local; hover for UTC."));
  // An operator may have turned the documents off.
  const answer = await fetch("/openapi.json", { method: "HEAD" }).catch(() => null);
  if (answer?.ok) room.append(h("a", { href: "/docs/" }, "API documentation"));
}
