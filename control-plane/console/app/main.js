// The console: signs in, shows the page that the address names, and leaves the one before.

import { redeem } from "./calls.js";
import { forget } from "./fleet.js";
import { go, href, parts } from "./router.js";
import { end, may, restore, session } from "./session.js";
import { applyTheme } from "./theme.js";
import { frame } from "../parts/frame.js";
import { byId } from "../parts/dom.js";
import { loading } from "../parts/state.js";
import { auditPage } from "../pages/audit.js";
import { daemonsPage } from "../pages/daemons.js";
import { missingPage } from "../pages/missing.js";
import { overviewPage } from "../pages/overview.js";
import { signIn, signInPage } from "../pages/sign-in.js";
import { tenantsPage } from "../pages/tenants.js";
import { tenantPage } from "../pages/tenant/page.js";

/** @import { Page } from "./router.js" */

const main = byId("main");
/** What ends when its page is left. */
let page = new AbortController();
/** What the sign-in page is to say first. */
let word = "";

/**
 * @param {string[]} path
 * @param {AbortSignal} signal
 * @returns {Page}
 */
function choose(path, signal) {
  const [first, id, section] = path;
  const signedIn = session();
  if (!signedIn) return signInPage(word);
  if (first === "tenants" && id) {
    const own = signedIn.tenant === null || signedIn.tenant === id;
    return own ? tenantPage(id, section, signal) : missingPage();
  }
  if (!may("tenants")) return first ? missingPage() : tenantPage(signedIn.tenant ?? "", undefined, signal);
  if (first === undefined) return overviewPage(signal);
  if (path.length === 1 && first === "tenants") return tenantsPage(signal);
  if (path.length === 1 && first === "daemons") return daemonsPage(signal);
  if (path.length === 1 && first === "audit") return auditPage(signal);
  return missingPage();
}

/** @type {string | null} */
let shown = null;

function show() {
  page.abort();
  page = new AbortController();
  // What was asked for the page before is not to be answered on this one.
  for (const dialog of document.querySelectorAll("dialog")) dialog.close();
  const path = parts();
  const { title, element } = choose(path, page.signal);
  word = "";
  document.title = `${title} · Jalur`;
  frame(path, leave);
  main.replaceChildren(element);
  // A section of the same page keeps the place; another page begins at its top, for eyes and for screen readers.
  const place = path.slice(0, 2).join("/");
  if (shown !== null && shown !== place) {
    window.scrollTo(0, 0);
    main.focus({ preventScroll: true });
  }
  shown = place;
}

function leave() {
  end();
  forget();
  go();
  show();
}

/**
 * A link that signs in: its code is taken out of the address before anything else.
 * @param {string} code
 */
async function follow(code) {
  history.replaceState(null, "", href());
  frame([], leave);
  main.replaceChildren(loading("your session"));
  try {
    await signIn(await redeem(code));
  } catch (error) {
    word = error instanceof Error ? error.message : String(error);
  }
  show();
}

applyTheme();
restore();
window.addEventListener("hashchange", () => start());
window.addEventListener("signed-in", () => {
  forget();
  show();
});
window.addEventListener("signed-out", (event) => {
  word = `Your session has ended: ${/** @type {CustomEvent<string>} */ (event).detail}`;
  forget();
  show();
});
byId("skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});

function start() {
  const code = /^#code=([0-9a-f]+)$/.exec(location.hash)?.[1];
  if (code) void follow(code);
  else show();
}
start();
