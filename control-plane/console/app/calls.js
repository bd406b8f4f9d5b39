// The calls of the public API, by name.

import { Problem, call, text } from "./api.js";
import { elements, members } from "./exact.js";

/** @import { Daemon, DeadLetter, Limits, Message, NewCredential, Retention, Tenant } from "./types.js" */

/** @param {string} id */
const tenantPath = (id) => `/api/tenants/${encodeURIComponent(id)}`;

export const tenants = {
  /**
   * @param {string} pageToken
   * @param {AbortSignal} [signal]
   * @returns {Promise<{tenants: Tenant[], next_page_token: string}>}
   */
  list: (pageToken, signal) =>
    call("GET", "/api/tenants", { query: { page_size: 1000, page_token: pageToken }, signal }),

  /**
   * @param {string} id
   * @param {AbortSignal} [signal]
   * @returns {Promise<Tenant>}
   */
  get: (id, signal) => call("GET", tenantPath(id), { signal }),

  /**
   * @param {{id: string, name: string, description: string, status: string}} tenant
   * @returns {Promise<Tenant>}
   */
  create: (tenant) => call("POST", "/api/tenants", { body: tenant }),

  /**
   * @param {string} id
   * @param {{name?: string, description?: string, status?: string}} change
   * @returns {Promise<Tenant>}
   */
  update: (id, change) => call("PATCH", tenantPath(id), { body: change }),

  /** @param {string} id */
  remove: (id) => call("DELETE", tenantPath(id)),

  /**
   * @param {string} id
   * @param {number} workers
   * @returns {Promise<{workers: number, applied: boolean}>}
   */
  setWorkers: (id, workers) => call("PUT", `${tenantPath(id)}/config/concurrency`, { body: { workers } }),

  /**
   * @param {string} id
   * @param {Limits} limits
   * @returns {Promise<Limits>}
   */
  setLimits: (id, limits) => call("PUT", `${tenantPath(id)}/config/limits`, { body: limits }),

  /**
   * @param {string} id
   * @param {Retention} retention
   * @returns {Promise<Retention>}
   */
  setRetention: (id, retention) => call("PUT", `${tenantPath(id)}/config/retention`, { body: retention }),
};

/**
 * A stored message from its JSON, with the payload as the text it is.
 * @param {string} json
 * @returns {Message}
 */
export function message(json) {
  const fields = members(json);
  /** @param {string} name */
  const field = (name) => String(JSON.parse(fields.get(name) ?? '""'));
  return {
    id: field("id"),
    tenant_id: field("tenant_id"),
    position: field("position"),
    payload: fields.get("payload") ?? "null",
    created_at: field("created_at"),
  };
}

/**
 * @typedef {object} Filter
 * @property {string} [contains]
 * @property {string} [created_after]
 * @property {string} [created_before]
 */

export const messages = {
  /**
   * A page backwards from `cursor`, or from the newest.
   * @param {string} id
   * @param {{cursor?: string, limit?: number, order?: string} & Filter} query
   * @param {AbortSignal} [signal]
   * @returns {Promise<{data: Message[], cursor: string, atEnd: boolean}>}
   */
  list: async (id, query, signal) => {
    const page = members(await text("GET", `${tenantPath(id)}/messages`, { query: { ...query }, signal }));
    const data = elements(page.get("data") ?? "[]").map(message);
    const said = page.get("at_end");
    return {
      data,
      cursor: String(JSON.parse(page.get("next_cursor") ?? '"0"')),
      atEnd: said === undefined ? data.length === 0 : said === "true",
    };
  },

  /**
   * Publishes `payload`, a JSON value's text, as it is.
   * @param {string} id
   * @param {string} payload
   * @param {string[]} ids
   * @returns {Promise<{ids: string[]}>}
   */
  publish: (id, payload, ids) => {
    const sent = ids.map((one) => `{${one ? `"id":${JSON.stringify(one)},` : ""}"payload":${payload}}`);
    return call("POST", `${tenantPath(id)}/messages`, { json: `{"messages":[${sent.join(",")}]}` });
  },

  /**
   * @param {string} id
   * @param {string} cursor
   */
  streamPath: (id, cursor) => `${tenantPath(id)}/messages/stream?follow=true&cursor=${encodeURIComponent(cursor)}`,
};

export const letters = {
  /**
   * @param {string} id
   * @param {{limit: number, page_token?: string, reason?: string}} query
   * @param {AbortSignal} [signal]
   * @returns {Promise<{dead_letters: DeadLetter[], next_page_token?: string}>}
   */
  list: (id, query, signal) => call("GET", `${tenantPath(id)}/dead-letters`, { query: { ...query }, signal }),

  /**
   * @param {string} id
   * @param {string} letter
   * @param {AbortSignal} [signal]
   * @returns {Promise<DeadLetter>}
   */
  get: async (id, letter, signal) => {
    const json = await text("GET", `${tenantPath(id)}/dead-letters/${encodeURIComponent(letter)}`, { signal });
    return { .../** @type {DeadLetter} */ (JSON.parse(json)), headers: members(json).get("headers") };
  },

  /**
   * @param {string} id
   * @param {{ids?: string[], all?: boolean, reason?: string, per_second?: number}} what
   * @param {AbortSignal} [signal]
   * @returns {Promise<{replayed: number, remaining: number}>}
   */
  replay: (id, what, signal) => call("POST", `${tenantPath(id)}/dead-letters/replay`, { body: what, signal }),

  /**
   * @param {string} id
   * @param {string} [reason]
   * @returns {Promise<{purged: number, remaining?: number}>}
   */
  purge: (id, reason) => call("DELETE", `${tenantPath(id)}/dead-letters`, { query: { reason } }),

  /**
   * @param {string} id
   * @param {string} letter
   * @returns {Promise<{purged?: number}>}
   */
  remove: (id, letter) => call("DELETE", `${tenantPath(id)}/dead-letters/${encodeURIComponent(letter)}`),
};

export const credentials = {
  /**
   * @param {string} id
   * @param {AbortSignal} [signal]
   * @returns {Promise<{credentials: import("./types.js").Credential[]}>}
   */
  list: (id, signal) => call("GET", `${tenantPath(id)}/credentials`, { signal }),

  /**
   * @param {string} id
   * @param {{role: string, label: string, amqp: boolean}} credential
   * @returns {Promise<NewCredential>}
   */
  create: (id, credential) => call("POST", `${tenantPath(id)}/credentials`, { body: credential }),

  /**
   * @param {string} id
   * @param {string} clientId
   */
  revoke: (id, clientId) => call("DELETE", `${tenantPath(id)}/credentials/${encodeURIComponent(clientId)}`),
};

export const daemons = {
  /**
   * All of them.
   * @param {AbortSignal} [signal]
   * @returns {Promise<Daemon[]>}
   */
  list: async (signal) => {
    /** @type {Daemon[]} */
    const all = [];
    let pageToken = "";
    do {
      /** @type {{daemons: Daemon[], next_page_token: string}} */
      const page = await call("GET", "/api/daemons", { query: { page_size: 1000, page_token: pageToken }, signal });
      all.push(...page.daemons);
      pageToken = page.next_page_token;
    } while (pageToken);
    return all;
  },

  /**
   * @param {string} id
   * @returns {Promise<Daemon>}
   */
  drain: (id) => call("POST", `/api/daemons/${encodeURIComponent(id)}/drain`),

  /**
   * @param {string} id
   * @returns {Promise<Daemon>}
   */
  undrain: (id) => call("POST", `/api/daemons/${encodeURIComponent(id)}/undrain`),
};

/**
 * @param {{cursor: string, tenant_id?: string}} query
 * @param {AbortSignal} [signal]
 * @returns {Promise<{data: import("./types.js").AuditEvent[], next_cursor: string}>}
 */
export function audit(query, signal) {
  return call("GET", "/api/audit", { query: { ...query, limit: 100 }, signal });
}

/**
 * A token for a credential.
 * @param {string} clientId
 * @param {string} clientSecret
 * @returns {Promise<string>}
 */
export async function buyToken(clientId, clientSecret) {
  const body = { client_id: clientId, client_secret: clientSecret };
  const sold = /** @type {{access_token: string}} */ (await call("POST", "/api/auth/token", { body, token: "" }));
  return sold.access_token;
}

/**
 * A token for the code of a link that signs in, which is good once.
 * @param {string} code
 * @returns {Promise<string>}
 */
export async function redeem(code) {
  const sold = /** @type {{access_token: string}} */ (await call("POST", "/console/sign-in", { body: { code }, token: "" }));
  return sold.access_token;
}

/**
 * Whose a token is. A token of Jalur's says so itself; one of an outside issuer may say it in its own words, so what it
 * opens is tried.
 * @param {string} token
 * @param {Record<string, unknown>} says
 * @returns {Promise<{role: "admin" | "tenant_admin" | "tenant", tenant: string | null}>}
 */
export async function whose(token, says) {
  const tenant = typeof says.tenant_id === "string" ? says.tenant_id : null;
  if (tenant === null) {
    await call("GET", "/api/tenants", { query: { page_size: 1 }, token });
    return { role: "admin", tenant };
  }
  await call("GET", tenantPath(tenant), { token });
  if (says.role === "tenant" || says.role === "tenant_admin") return { role: says.role, tenant };
  try {
    await call("GET", `${tenantPath(tenant)}/credentials`, { token });
    return { role: "tenant_admin", tenant };
  } catch (error) {
    if (error instanceof Problem && error.status === 403) return { role: "tenant", tenant };
    throw error;
  }
}
