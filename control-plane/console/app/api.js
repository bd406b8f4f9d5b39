// One call of the public API.

import { end, session } from "./session.js";

/** How long an answer may take: a replay takes 20 seconds, and deleting a tenant waits for its work in flight. */
const TIMEOUT_MS = 40_000;

/** What a call failed with. The message says what to do. */
export class Problem extends Error {
  /**
   * @param {string} message
   * @param {{status?: number, reason?: string, field?: string, requestId?: string}} [details]
   */
  constructor(message, { status = 0, reason = "", field = "", requestId = "" } = {}) {
    super(message);
    this.name = "Problem";
    /** HTTP's; 0 where there was no answer. */
    this.status = status;
    this.reason = reason;
    /** The first field that is to blame. */
    this.field = field;
    this.requestId = requestId;
  }
}

/**
 * @typedef {object} Options
 * @property {Record<string, string | number | boolean | undefined | null>} [query] without those that are empty
 * @property {unknown} [body] sent as JSON
 * @property {string} [json] a body that is JSON already
 * @property {AbortSignal} [signal]
 * @property {string} [token] instead of the session's
 */

/**
 * @param {string} path
 * @param {Options["query"]} query
 */
export function address(path, query = {}) {
  const filled = Object.entries(query).filter(([, value]) => value !== undefined && value !== null && value !== "");
  const search = new URLSearchParams(filled.map(([name, value]) => [name, String(value)])).toString();
  return search ? `${path}?${search}` : path;
}

/**
 * The answer's text.
 * @param {string} verb
 * @param {string} path
 * @param {Options} [options]
 * @returns {Promise<string>}
 */
export async function text(verb, path, { query, body, json, signal, token } = {}) {
  /** @type {Record<string, string>} */
  const headers = { accept: "application/json" };
  const bearer = token ?? session()?.token;
  if (bearer) headers.authorization = `Bearer ${bearer}`;
  const content = json ?? (body === undefined ? undefined : JSON.stringify(body));
  if (content !== undefined) headers["content-type"] = "application/json";
  const late = AbortSignal.timeout(TIMEOUT_MS);
  const signals = signal ? [signal, late] : [late];
  try {
    const answer = await fetch(address(path, query), {
      method: verb,
      headers,
      body: content,
      cache: "no-store",
      // Else a browser asks its user, in a window of its own, when a token is refused: an answer of 401 names HTTP Basic.
      credentials: "omit",
      signal: AbortSignal.any(signals),
    });
    const said = await answer.text();
    if (answer.ok) return said;
    throw refused(answer, said, token === undefined);
  } catch (error) {
    throw unreachable(error, signal);
  }
}

/**
 * The answer, where it holds no payloads.
 * @template T
 * @param {string} verb
 * @param {string} path
 * @param {Options} [options]
 * @returns {Promise<T>}
 */
export async function call(verb, path, options) {
  return /** @type {T} */ (JSON.parse((await text(verb, path, options)) || "{}"));
}

/**
 * What an answer that is no success says.
 * @param {Response} answer
 * @param {string} said
 * @param {boolean} ofSession
 */
export function refused(answer, said, ofSession) {
  const problem = read(answer, said);
  if (answer.status === 401 && ofSession && session()) {
    end();
    window.dispatchEvent(new CustomEvent("signed-out", { detail: problem.message }));
  }
  return problem;
}

/**
 * @param {Response} answer
 * @param {string} said
 */
function read(answer, said) {
  const requestId = answer.headers.get("x-request-id") ?? "";
  const status = answer.status;
  /** @type {{message?: string, details?: Record<string, any>[]}} */
  let body = {};
  try {
    body = JSON.parse(said);
  } catch {
    // A proxy's page, say: its status is all there is to tell.
  }
  /** @param {string} kind */
  const detail = (kind) => body.details?.find((one) => String(one["@type"]).endsWith(`google.rpc.${kind}`));
  const reason = String(detail("ErrorInfo")?.reason ?? "");
  const field = String(detail("BadRequest")?.field_violations?.[0]?.field ?? "");
  return new Problem(body.message ?? `The control plane answered ${status}. Try again in a moment.`, {
    status,
    reason,
    field,
    requestId,
  });
}

/**
 * What a failed fetch failed with; a page that was left remains an `AbortError`.
 * @param {unknown} error
 * @param {AbortSignal | undefined} left
 */
export function unreachable(error, left) {
  if (error instanceof Problem || left?.aborted) return error;
  if (error instanceof DOMException && error.name === "TimeoutError") {
    return new Problem(`There was no answer within ${TIMEOUT_MS / 1000} seconds. Look whether it was done, then try again.`);
  }
  return new Problem("The control plane cannot be reached. Check that it runs and that you are connected; this page goes on trying.");
}

/**
 * Whether a failure only says that the page was left.
 * @param {unknown} error
 */
export function isLeft(error) {
  return error instanceof DOMException && error.name === "AbortError";
}
