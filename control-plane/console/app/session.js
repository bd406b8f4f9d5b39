// Who is signed in. It is kept for the tab alone, and its secret nowhere.

/** @import { Role } from "./types.js" */

/**
 * @typedef {object} Session
 * @property {string} token
 * @property {Role} role
 * @property {string | null} tenant the tenant of a tenant's roles
 * @property {string} sub
 * @property {number | null} ends in milliseconds since 1970
 */

const KEY = "jalur.session";

/** @type {Session | null} */
let current = null;

/** @returns {Session | null} */
export function session() {
  return current;
}

/** Takes up what the tab has kept. */
export function restore() {
  try {
    const kept = /** @type {Session | null} */ (JSON.parse(sessionStorage.getItem(KEY) ?? "null"));
    if (kept && (kept.ends === null || kept.ends > Date.now())) current = kept;
  } catch {
    // What cannot be read is as good as nothing: sign in again.
    sessionStorage.removeItem(KEY);
  }
}

/** @param {Session} begun */
export function begin(begun) {
  current = begun;
  sessionStorage.setItem(KEY, JSON.stringify(begun));
}

export function end() {
  current = null;
  sessionStorage.removeItem(KEY);
}

/**
 * @typedef {"tenants" | "daemons" | "audit" | "manage" | "limits" | "workers" | "letters" | "credentials" | "publish"} Right
 */

/** @type {Record<Role, Right[]>} */
const RIGHTS = {
  admin: ["tenants", "daemons", "audit", "manage", "limits", "workers", "letters", "credentials", "publish"],
  tenant_admin: ["workers", "letters", "credentials", "publish"],
  tenant: ["publish"],
};

/**
 * Whether the one who is signed in may. What they may not is not offered; who decides is the control plane.
 * @param {Right} right
 */
export function may(right) {
  return current !== null && RIGHTS[current.role].includes(right);
}

/**
 * What a token says of itself. Nothing of it is believed: it only tells which page to show.
 * @param {string} token
 * @returns {Record<string, unknown>}
 */
export function claims(token) {
  try {
    const part = (token.split(".")[1] ?? "").replaceAll("-", "+").replaceAll("_", "/");
    const bytes = Uint8Array.from(atob(part), (character) => character.charCodeAt(0));
    const read = /** @type {unknown} */ (JSON.parse(new TextDecoder().decode(bytes)));
    return read !== null && typeof read === "object" ? /** @type {Record<string, unknown>} */ (read) : {};
  } catch {
    return {};
  }
}
