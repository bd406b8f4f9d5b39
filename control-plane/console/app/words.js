// Numbers, times and sizes as people read them, in their own locale.

const whole = new Intl.NumberFormat();
const short = new Intl.NumberFormat(undefined, { notation: "compact", maximumFractionDigits: 1 });
const rate = new Intl.NumberFormat(undefined, { maximumFractionDigits: 1 });
const stamp = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
const day = new Intl.DateTimeFormat(undefined, { dateStyle: "medium" });
const clock = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });
const minutes = new Intl.DateTimeFormat(undefined, { timeStyle: "short" });

/** What stands where something is not known. */
export const UNKNOWN = "–";

/** @param {number | undefined} count */
export const number = (count) => (count === undefined ? UNKNOWN : whole.format(count));

/** @param {number | undefined} count */
export const brief = (count) => (count === undefined ? UNKNOWN : Math.abs(count) < 10_000 ? rate.format(count) : short.format(count));

/** @param {number | undefined} perSecond */
export const perSecond = (perSecond) => (perSecond === undefined ? UNKNOWN : `${brief(perSecond)}/s`);

/**
 * @param {number} count
 * @param {string} one
 * @param {string} [many]
 */
export const counted = (count, one, many = `${one}s`) => `${number(count)} ${count === 1 ? one : many}`;

/** @param {number} bytes */
export function size(bytes) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  let left = bytes;
  while (left >= 1000 && unit < units.length - 1) {
    left /= 1000;
    unit += 1;
  }
  return `${rate.format(left)} ${units[unit]}`;
}

/** @param {string | number | Date} at */
export const dateTime = (at) => stamp.format(new Date(at));

/** @param {string | number | Date} at */
export const date = (at) => day.format(new Date(at));

/** @param {string | number | Date} at */
export const timeOfDay = (at) => clock.format(new Date(at));

/** @param {string | number | Date} at */
export const hourAndMinute = (at) => minutes.format(new Date(at));

/** @param {string | number | Date} at */
export const utc = (at) => `${new Date(at).toISOString().replace("T", " ").replace("Z", "")} UTC`;

/**
 * How long something lasts, in its two largest units.
 * @param {number} ms
 */
export function duration(ms) {
  const seconds = Math.max(0, Math.round(ms / 1000));
  const units = /** @type {[string, number][]} */ ([["d", 86_400], ["h", 3_600], ["min", 60], ["s", 1]]);
  const first = units.findIndex(([, length]) => seconds >= length);
  if (first < 0) return "0 s";
  const [unit, length] = units[first] ?? ["s", 1];
  const [next, nextLength] = units[first + 1] ?? ["", 0];
  const rest = nextLength ? Math.floor((seconds % length) / nextLength) : 0;
  return `${Math.floor(seconds / length)} ${unit}${rest ? ` ${rest} ${next}` : ""}`;
}

/**
 * @param {string | number | Date} at
 * @param {number} [now]
 */
export const since = (at, now = Date.now()) => duration(now - new Date(at).getTime());

const KINDS = /** @type {Record<string, string>} */ ({
  queue: "Queue",
  table: "Table",
  delivery: "Delivery",
  letters: "Letters",
});

/** @param {string} kind */
export const trouble = (kind) => KINDS[kind] ?? kind;

const REASONS = /** @type {Record<string, string>} */ ({
  not_json: "No JSON",
  not_storable: "Not storable",
  too_large: "Too large",
  unreadable: "Unreadable",
  refused: "Refused",
  unknown: "Unknown",
});

/** The words that dead letters' reasons have in the API. */
export const REASON_WORDS = Object.keys(REASONS);

/** @param {string} word */
export const reason = (word) => REASONS[word] ?? word;

const ROLES = /** @type {Record<string, string>} */ ({
  admin: "Operator",
  tenant_admin: "Tenant administrator",
  tenant: "Tenant",
  daemon: "Daemon",
});

/** @param {string} word */
export const role = (word) => ROLES[word] ?? word;
