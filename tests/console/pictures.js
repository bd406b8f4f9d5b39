// Pictures of every page, in light and dark, on a desktop and on a phone, of a stack with `--demo`:
// `node pictures.js FOLDER [PAGE…]`.

import { mkdir } from "node:fs/promises";

import { launch, open, sees } from "./browser.js";

const url = process.env.JALUR_URL ?? "";
const token = process.env.JALUR_ADMIN_TOKEN ?? "";
const [, , folder = "", ...wanted] = process.argv;
const SIZES = /** @type {const} */ ({ desktop: { width: 1280, height: 860 }, phone: { width: 360, height: 760 } });
const SCHEMES = /** @type {const} */ (["light", "dark"]);

/** @param {string} path @param {unknown} [body] */
async function api(path, body) {
  const headers = { authorization: `Bearer ${token}`, "content-type": "application/json" };
  const answer = await fetch(url + path, body === undefined ? { headers } : { method: "POST", headers, body: JSON.stringify(body) });
  if (!answer.ok) throw new Error(`${path}: ${await answer.text()}`);
  return answer.json();
}

/** @type {{tenants: {id: string, name: string}[]}} */
const { tenants } = await api("/api/tenants");
const shop = tenants.find(({ name }) => name === "demo: shop");
if (!shop) throw new Error("there is no demo: start the stack with --demo");
const tenant = `tenants/${shop.id}`;
/** @type {{credentials: unknown[]}} */
const { credentials } = await api(`/api/${tenant}/credentials`);
if (credentials.length === 0) {
  await api(`/api/${tenant}/credentials`, { label: "the shop's backend", role: "tenant" });
  await api(`/api/${tenant}/credentials`, { label: "the shop's people", role: "tenant_admin" });
}
/** @type {{client_id: string, client_secret: string}} */
const own = await api(`/api/${tenant}/credentials`, { label: "for a picture", role: "tenant" });
/** @type {{access_token: string}} */
const bought = await api("/api/auth/token", { client_id: own.client_id, client_secret: own.client_secret });

const admin = { token, role: "admin", tenant: null, sub: "local", ends: null };
const customer = { token: bought.access_token, role: "tenant", tenant: shop.id, sub: own.client_id, ends: null };

/**
 * Each page: whose, where, what is to be seen first, and what is opened on it.
 * @type {{name: string, session: object | null, path: string, seen: string, selector?: string, press?: string, lingers?: boolean}[]}
 */
const PAGES = [
  { name: "sign-in", session: null, path: "", seen: "Client id" },
  { name: "overview", session: admin, path: "", seen: "What is wrong now", lingers: true },
  { name: "tenants", session: admin, path: "tenants", seen: "demo: shop" },
  { name: "tenant", session: admin, path: tenant, seen: "Publish a test message", lingers: true },
  { name: "messages", session: admin, path: `${tenant}/messages`, seen: "order", selector: ".feed", press: ".feed li:nth-child(2) summary" },
  { name: "dead-letters", session: admin, path: `${tenant}/dead-letters`, seen: "lamp", selector: ".feed", press: ".feed summary" },
  { name: "credentials", session: admin, path: `${tenant}/credentials`, seen: "backend" },
  { name: "settings", session: admin, path: `${tenant}/settings`, seen: "Retention" },
  { name: "daemons", session: admin, path: "daemons", seen: "Workers" },
  { name: "audit", session: admin, path: "audit", seen: "done" },
  { name: "portal", session: customer, path: "", seen: "Publish a test message", lingers: true },
];

await mkdir(folder, { recursive: true });
const browser = await launch();
try {
  for (const { name, session, path, seen, selector, press, lingers } of PAGES) {
    if (wanted.length > 0 && !wanted.includes(name)) continue;
    const { page, clean, close } = await open(browser, url);
    if (session) await page.evaluateOnNewDocument((kept) => sessionStorage.setItem("jalur.session", kept), JSON.stringify(session));
    await page.goto(`${url}/#/${path}`);
    await sees(page, seen, selector);
    if (press) await page.locator(press).click();
    // For the charts to have something to show.
    if (lingers) await new Promise((resolve) => setTimeout(resolve, 30_000));
    for (const [size, viewport] of Object.entries(SIZES)) {
      await page.setViewport(viewport);
      for (const scheme of SCHEMES) {
        await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }, { name: "prefers-reduced-motion", value: "reduce" }]);
        await page.evaluate(() => new Promise((resolve) => setTimeout(resolve, 300)));
        await page.evaluate(() => window.scrollTo(0, 0));
        await page.screenshot({ path: `${folder}/${name}-${size}-${scheme}.webp`, type: "webp", quality: 80 });
      }
    }
    clean();
    await close();
  }
} finally {
  await browser.close();
}
