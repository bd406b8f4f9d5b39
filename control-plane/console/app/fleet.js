// All tenants, as the pages that list them share them: pages of a thousand, read one after the other.

import { tenants } from "./calls.js";

/** @import { Tenant } from "./types.js" */

/** @type {Tenant[]} */
let known = [];
/** When the last reading was complete. */
let readAt = 0;

/** What is known, as of `readAt`; nothing before the first reading. */
export const fleet = () => ({ tenants: known, readAt });

export function forget() {
  known = [];
  readAt = 0;
}

/**
 * Reads all. Where nothing is known yet, `onPart` has what came so far after every page.
 * @param {AbortSignal} signal
 * @param {(sofar: Tenant[]) => void} onPart
 */
export async function readFleet(signal, onPart) {
  /** @type {Tenant[]} */
  const all = [];
  let pageToken = "";
  do {
    const page = await tenants.list(pageToken, signal);
    all.push(...page.tenants);
    pageToken = page.next_page_token;
    if (readAt === 0 && pageToken) onPart(all);
  } while (pageToken);
  known = all;
  readAt = Date.now();
}

/** How often all tenants are read again: many cost more, and change as a whole more slowly. */
export const pauseMs = () => Math.min(30_000, 3_000 + known.length);

/**
 * The sum of a figure over all who have it; unknown where nobody has.
 * @param {Tenant[]} of
 * @param {"queue_depth" | "dead_letters" | "retrying" | "stored_per_second"} figure
 * @returns {number | undefined}
 */
export function total(of, figure) {
  const values = of.flatMap((tenant) => tenant.runtime?.[figure] ?? []);
  return values.length > 0 || of.length === 0 ? values.reduce((sum, one) => sum + one, 0) : undefined;
}
