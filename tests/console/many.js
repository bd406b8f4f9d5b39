// A control plane that there is not: 10,000 tenants, answered as the API answers them, and the console's own files.

import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { extname } from "node:path";

const FILES = new URL("../../control-plane/console/", import.meta.url);
const TYPES = /** @type {Record<string, string>} */ ({ ".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml" });
const POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'";

/** @param {number} n */
function tenant(n) {
  const problem = n % 997 === 3 ? { kind: "table", detail: "its partition is locked by another session; end that session", since: "2026-11-29T08:00:00Z" } : undefined;
  return {
    id: `00000000-0000-4000-8000-${String(n).padStart(12, "0")}`,
    name: `customer ${String((n * 7919) % 10_000).padStart(5, "0")}`,
    description: "",
    status: n % 50 === 7 ? "paused" : "active",
    workers: 1 + (n % 8),
    created_at: "2026-11-01T10:00:00.123456Z",
    updated_at: "2026-11-01T10:00:00.123456Z",
    runtime: { consumers: [], queue_depth: (n * 31) % 5_000, dead_letters: n % 40 === 0 ? n % 100 : 0, retrying: 0, stored_per_second: (n % 90) / 2, problem },
    limits: {},
  };
}

/** @param {number} count */
export async function many(count) {
  const tenants = Array.from({ length: count }, (_, n) => tenant(n));
  const server = createServer(async (request, response) => {
    const url = new URL(request.url ?? "/", "http://x");
    /** @param {unknown} body */
    const json = (body) => void response.setHeader("content-type", "application/json").end(JSON.stringify(body));
    if (url.pathname === "/api/tenants") {
      const size = Number(url.searchParams.get("page_size") ?? 100);
      const from = Number(url.searchParams.get("page_token") || 0);
      const next = from + size < count ? String(from + size) : "";
      return json({ tenants: tenants.slice(from, from + size), next_page_token: next });
    }
    if (url.pathname === "/openapi.json") return json({});
    if (url.pathname === "/api/daemons") return json({ daemons: [], next_page_token: "" });
    const name = url.pathname === "/" ? "index.html" : url.pathname.replace("/console/", "");
    try {
      const file = await readFile(new URL(name, FILES));
      response.setHeader("content-type", TYPES[extname(name)] ?? "text/plain").setHeader("content-security-policy", POLICY).end(file);
    } catch {
      response.writeHead(404).end();
    }
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve(undefined)));
  const address = /** @type {import("node:net").AddressInfo} */ (server.address());
  return { url: `http://127.0.0.1:${address.port}`, close: () => server.close() };
}
