// Chromium, driven as a person drives it: by labels, buttons' names and what is to be read.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import puppeteer from "puppeteer-core";

/** @typedef {import("puppeteer-core").Page} Page */

/** What takes longer on two busy cores has failed. */
const PATIENCE_MS = Number(process.env.PATIENCE_MS ?? 60_000);

const axeFile = createRequire(import.meta.url).resolve("axe-core/axe.min.js");

export function launch() {
  return puppeteer.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    // Containers run as root, where Chromium has no sandbox of its own.
    args: process.getuid?.() === 0 ? ["--no-sandbox"] : [],
  });
}

/**
 * A page that keeps what went wrong on it and whom it asked.
 * @param {import("puppeteer-core").Browser} browser
 * @param {string} url the only origin that may be asked
 */
export async function open(browser, url) {
  // A context of its own is a tab without anybody else's session.
  const context = await browser.createBrowserContext();
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE_MS);
  /** @type {string[]} */
  const wrong = [];
  page.on("console", (message) => {
    if (["error", "warn"].includes(message.type())) wrong.push(`${message.type()}: ${message.text()} ${message.location().url ?? ""}`);
  });
  page.on("pageerror", (error) => wrong.push(String(error)));
  page.on("request", (request) => {
    const asked = new URL(request.url());
    if (asked.protocol.startsWith("http") && asked.origin !== new URL(url).origin) wrong.push(`asked ${request.url()}`);
  });
  return {
    page,
    close: () => context.close(),
    /** Nothing went wrong since the last look, but for what is to go wrong. @param {RegExp} [expected] */
    clean(expected) {
      const unexpected = wrong.splice(0).filter((line) => !expected?.test(line));
      assert.deepEqual(unexpected, []);
    },
  };
}

/** @param {Page} page @param {string} name @param {string} [role] */
export const named = (page, name, role = "button") => page.locator(`::-p-aria([name="${name}"][role="${role}"])`);

/**
 * Presses a button. Words that lie in front of it are dismissed first.
 * @param {Page} page
 * @param {string} name
 */
export async function press(page, name) {
  await page.$$eval(".note button", (all) => all.forEach((button) => /** @type {HTMLElement} */ (button).click()));
  await named(page, name).click();
}

/** @param {Page} page @param {string} name */
export const follow = (page, name) => named(page, name, "link").click();

/**
 * Puts a text into the field with this label.
 * @param {Page} page
 * @param {string} label
 * @param {string} text
 */
export async function write(page, label, text) {
  await page.waitForFunction(find, {}, label);
  const handle = await page.evaluateHandle(find, label);
  const field = /** @type {import("puppeteer-core").ElementHandle<HTMLInputElement>} */ (handle);
  await field.evaluate((element) => {
    element.value = "";
  });
  await field.type(text);
}

/**
 * The visible control of a label; runs on the page.
 * @param {string} label
 */
function find(label) {
  const labels = [...document.querySelectorAll("label")].filter((one) => one.textContent === label && one.checkVisibility());
  // A dialog stands in front of the page.
  const id = labels.at(-1)?.htmlFor;
  return id ? document.getElementById(id) : null;
}

/**
 * Waits until a text is to be seen in what a selector finds.
 * @param {Page} page
 * @param {string | RegExp} text
 * @param {string} [selector]
 */
export async function sees(page, text, selector = "body") {
  const pattern = typeof text === "string" ? text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&") : text.source;
  try {
    await page.waitForFunction(
      (wanted, where) => [...document.querySelectorAll(where)].some((element) => new RegExp(wanted, "i").test(/** @type {HTMLElement} */ (element).innerText)),
      {},
      pattern,
      selector,
    );
  } catch (error) {
    const shown = await page.$$eval(selector, (elements) => elements.map((element) => /** @type {HTMLElement} */ (element).innerText).join("\n"));
    throw new Error(`${text} is not to be seen in ${selector}, which has:\n${shown}`, { cause: error });
  }
}

/**
 * No rule of accessibility is broken, in light and in dark.
 * @param {Page} page
 * @param {string} where
 */
export async function accessible(page, where) {
  const source = await readFile(axeFile, "utf8");
  for (const scheme of ["light", "dark"]) {
    await page.emulateMediaFeatures([
      { name: "prefers-color-scheme", value: scheme },
      { name: "prefers-reduced-motion", value: "reduce" },
    ]);
    const found = await page.evaluate(async (code) => {
      // The page's own policy lets it run no code from elsewhere, and this is none of the page's.
      const global = /** @type {any} */ (window);
      if (!global.axe) (0, eval)(code);
      const result = await global.axe.run(document, { resultTypes: ["violations"] });
      return result.violations.map((/** @type {any} */ one) => `${one.id}: ${one.help}: ${one.nodes.map((/** @type {any} */ node) => `${node.target} ${node.failureSummary}`).join("; ")}`);
    }, source);
    assert.deepEqual(found, [], `${where}, ${scheme}`);
  }
}
