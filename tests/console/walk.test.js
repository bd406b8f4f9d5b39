// A person's way through the console, on a running stack: JALUR_URL, JALUR_ADMIN_TOKEN, JALUR_AMQP_URL and JALUR_LINK.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { after, before, test } from "node:test";

import { accessible, follow, launch, named, open, press, sees, write } from "./browser.js";

/** @param {string} name */
function variable(name) {
  const value = process.env[name];
  assert.ok(value, `${name} is not set: source the data folder's env`);
  return value;
}

const url = variable("JALUR_URL");
const name = `walk ${Date.now()}`;
/** What Chromium says of an answer that is to be an error. */
const REFUSED = /status of 4\d\d/;

/** @type {import("puppeteer-core").Browser} */
let browser;
/** @type {Awaited<ReturnType<typeof open>>} */
let tab;
/** @type {import("puppeteer-core").Page} */
let page;
/** The tenant's, once it is made. */
let id = "";
let secret = { id: "", secret: "" };

before(async () => {
  browser = await launch();
  tab = await open(browser, url);
  page = tab.page;
});
after(() => browser?.close());

let isBroken = false;
/**
 * A step of the way: where one fails, those behind it say nothing more.
 * @param {string} what
 * @param {() => Promise<void>} act
 */
const step = (what, act) =>
  test(what, async (context) => {
    if (isBroken) return context.skip("a step before it failed");
    isBroken = true;
    await act();
    isBroken = false;
  });

/** @param {string} section */
const section = async (section) => {
  // The frame has an Audit, too.
  await page.locator(`.tabs a::-p-text(${section})`).click();
  await page.waitForSelector(`.tabs [aria-current]::-p-text(${section})`);
};

step("a link signs in once, and its code stays nowhere", async () => {
  await page.goto(variable("JALUR_LINK"));
  await sees(page, "Overview", "h1");
  assert.ok(!page.url().includes("code"), page.url());
  tab.clean();
  const second = await open(browser, url);
  await second.page.goto(variable("JALUR_LINK"));
  await sees(second.page, "The link was used", ".banner");
  second.clean(REFUSED);
  await second.close();
  await press(page, "Sign out");
  await sees(page, "Sign in", "h1");
  assert.equal(await page.evaluate(() => sessionStorage.length), 0);
});

step("a token signs in, and one that is no good is told why", async () => {
  await page.locator('input[value="token"]').click();
  await write(page, "Token", "nonsense");
  await press(page, "Sign in");
  await sees(page, "three parts", ".field-error");
  await write(page, "Token", "a.b.c");
  await press(page, "Sign in");
  await sees(page, "the token is not accepted", ".field-error");
  tab.clean(REFUSED);
  await accessible(page, "sign in");
  await page.evaluate((token) => {
    const field = [...document.querySelectorAll("textarea")].at(-1);
    if (field) field.value = token;
  }, variable("JALUR_ADMIN_TOKEN"));
  await press(page, "Sign in");
  await sees(page, "Daemons", ".figures");
  await accessible(page, "overview");
  await page.reload();
  await sees(page, "Daemons", ".figures");
  tab.clean();
});

step("a tenant is made, paused, and its backlog and chart move", async () => {
  await follow(page, "Tenants");
  await press(page, "New tenant");
  await write(page, "Name", name);
  await accessible(page, "new tenant");
  await press(page, "Make tenant");
  await sees(page, name, "h1");
  id = /tenants\/([0-9a-f-]+)/.exec(page.url())?.[1] ?? "";
  await press(page, "Pause");
  await sees(page, "paused", ".title .badge");

  const line = () => page.$$eval(".chart", (charts) => charts.at(-1)?.querySelector(".line")?.getAttribute("d"));
  await page.waitForSelector(".chart .line");
  const flat = await line();
  await write(page, "Payload", '{"amount": 12345678901234567890.10, "big": 9007199254740993}');
  await write(page, "Copies", "40");
  await press(page, "Publish");
  await sees(page, "The broker has confirmed 40 messages");
  await sees(page, /Backlog\s+40/, "figcaption");
  assert.notEqual(await line(), flat);
  await accessible(page, "activity");
  await press(page, "Resume");
  await sees(page, "active", ".title .badge");
  await sees(page, /Backlog\s+0/, "figcaption");
  tab.clean();
});

step("workers are changed, and said to be applied", async () => {
  await write(page, "Set to", "300");
  await press(page, "Set workers");
  await sees(page, "from 1 to 256", ".field-error");
  await write(page, "Set to", "7");
  await press(page, "Set workers");
  await sees(page, "applied 7 workers on every daemon", "[aria-labelledby=workers]");
  await sees(page, "7", "[aria-labelledby=workers] td.number");
  tab.clean();
});

step("messages are read to the digit, and followed as they come", async () => {
  await section("Messages");
  await sees(page, "12345678901234567890.10", ".feed");
  await page.locator(".feed li:first-child summary").click();
  await sees(page, "9007199254740993", ".json");
  await press(page, "Follow");
  await sees(page, "Live", ".tail");
  await page.evaluate(
    async (tenant, token) => {
      const body = '{"messages":[{"payload":{"followed":1.10}}]}';
      await fetch(`/api/tenants/${tenant}/messages`, { method: "POST", body, headers: { authorization: `Bearer ${token}`, "content-type": "application/json" } });
    },
    id,
    variable("JALUR_ADMIN_TOKEN"),
  );
  await sees(page, '{"followed": 1.10}', ".feed li:first-child");
  await accessible(page, "messages");
  await press(page, "Follow");
  await page.locator(".filters summary").click();
  await write(page, "Payload contains", '{"followed": 1.1}');
  await press(page, "Filter");
  await page.waitForFunction(() => document.querySelectorAll(".feed li").length === 1);
  await sees(page, "followed", ".feed");
  await write(page, "Payload contains", "{");
  await press(page, "Filter");
  await sees(page, "This is not JSON", ".field-error");
  tab.clean();
});

step("a poison message is read, replayed and purged", async () => {
  const poison = ["-u", variable("JALUR_AMQP_URL"), "-r", `tenant_${id}_queue`, "-p", "-H", "x-origin: walk", "-b", "not json at all"];
  execFileSync("amqp-publish", poison);
  await section("Dead letters");
  await sees(page, "1 dead letter in all");
  await press(page, "Refresh");
  await sees(page, "not json at all", ".feed");
  await page.locator(".feed summary").click();
  await sees(page, "the body is not JSON", ".opened");
  await page.locator(".headers summary").click();
  await sees(page, "x-origin", ".headers");
  await accessible(page, "dead letters");

  await press(page, "Replay all…");
  await write(page, "At most a second", "0");
  await press(page, "Replay");
  await sees(page, "from 1 to", "dialog .field-error");
  await write(page, "At most a second", "100");
  await press(page, "Replay");
  await sees(page, "1 dead letter replayed", ".notices");
  // It is no JSON still.
  await sees(page, "1 dead letter in all");
  await press(page, "Purge…");
  await sees(page, "Purge 1 dead letter?", "dialog h2");
  await accessible(page, "purge");
  await press(page, "Purge 1");
  await sees(page, "No dead letters", ".state");
  tab.clean();
});

step("limits and retention are set", async () => {
  await section("Settings");
  await write(page, "Stored a second", "zero");
  await press(page, "Save limits");
  await sees(page, "whole number", ".field-error");
  await write(page, "Stored a second", "5,000");
  await press(page, "Save limits");
  await sees(page, "The limits are saved", ".notices");
  await write(page, "Kept at most, messages", "1000000");
  await press(page, "Save retention");
  await sees(page, "The retention is saved", ".notices");
  await accessible(page, "settings");
  await section("Activity");
  await sees(page, /storing 5.000\/s/, "[aria-labelledby=facts]");
  await section("Audit");
  await sees(page, "Set limits", ".list");
  await accessible(page, "the tenant's audit");
  tab.clean();
});

step("daemons are drained and undrained", async () => {
  await follow(page, "Daemons");
  await sees(page, "ready", ".daemon .badge");
  await accessible(page, "daemons");
  await press(page, "Drain");
  await sees(page, "taken off it", "dialog");
  await named(page, "Drain").filter((button) => button.closest("dialog") !== null).click();
  await sees(page, "Drained: it can be stopped", ".daemon");
  await press(page, "Undrain");
  await sees(page, "ready", ".daemon .badge");
  await follow(page, "Audit");
  await sees(page, "Undrain daemon", ".list");
  await accessible(page, "audit");
  tab.clean();
});

step("a credential's secret is shown once, and it signs in to that tenant alone", async () => {
  await page.goto(`${url}/#/tenants/${id}/credentials`);
  await press(page, "New credential");
  await write(page, "Label", "portal");
  await page.select("dialog select", "tenant_admin");
  await press(page, "Make credential");
  await sees(page, "shown this once", "dialog");
  await accessible(page, "a credential's secret");
  const [clientId = "", clientSecret = ""] = await page.$$eval("dialog code", (all) => all.map((one) => one.textContent ?? ""));
  secret = { id: clientId, secret: clientSecret };
  await press(page, "I have kept it");
  await sees(page, "portal", ".list");
  assert.ok(clientId && clientSecret);
  // The dialog goes when the browser has closed it, which is a moment later than the click.
  await page.waitForFunction((gone) => !document.documentElement.outerHTML.includes(gone), {}, clientSecret);
  await accessible(page, "credentials");
  tab.clean();

  const portal = await open(browser, url);
  await portal.page.goto(url);
  await write(portal.page, "Client id", secret.id);
  await write(portal.page, "Client secret", "wrong");
  await press(portal.page, "Sign in");
  await sees(portal.page, /credential|secret/, ".field-error");
  portal.clean(REFUSED);
  await write(portal.page, "Client secret", secret.secret);
  await press(portal.page, "Sign in");
  await sees(portal.page, name, "h1");
  assert.equal(await portal.page.$("header nav"), null);
  const sections = await portal.page.$$eval(".tabs a", (all) => all.map((one) => one.textContent));
  assert.deepEqual(sections, ["Activity", "Messages", "Dead letters", "Credentials"]);
  assert.equal(await portal.page.$("::-p-aria([name='Pause'][role='button'])"), null);
  await accessible(portal.page, "the portal");
  for (const elsewhere of ["tenants", "daemons", "audit", `tenants/${crypto.randomUUID()}`]) {
    await portal.page.goto(`${url}/#/${elsewhere}`);
    await sees(portal.page, "Nothing here", "h1");
  }
  portal.clean();

  await press(page, "Revoke");
  await press(page, "Revoke");
  await sees(page, "No credentials", ".state");
  await portal.page.goto(`${url}/#/tenants/${id}`);
  await sees(portal.page, "Your session has ended", ".banner");
  portal.clean(REFUSED);
  await portal.close();
});

step("a tenant is deleted once its name is typed", async () => {
  await section("Settings");
  await press(page, "Delete tenant");
  await press(page, "Delete for good");
  await sees(page, "exactly as it stands", "dialog .field-error");
  await page.locator("#dialog-proof").fill(name);
  await press(page, "Delete for good");
  await sees(page, "is deleted", ".notices");
  await sees(page, "Tenants", "h1");
  await page.goto(`${url}/#/tenants/${id}`);
  await sees(page, "does not exist", ".state");
  tab.clean(REFUSED);
});

step("it fits a phone, page by page", async () => {
  await page.setViewport({ width: 360, height: 740 });
  for (const path of ["", "tenants", "daemons", "audit"]) {
    await page.goto(`${url}/#/${path}`);
    await page.waitForFunction(() => !document.querySelector(".loading"));
    const width = await page.evaluate(() => document.documentElement.scrollWidth);
    assert.ok(width <= 360, `#/${path} is ${width} wide`);
  }
});
