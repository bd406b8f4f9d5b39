// Where one is: the address's fragment, since `/` is the only page.

/**
 * @typedef {object} Page
 * @property {string} title
 * @property {HTMLElement} element
 */

/** @typedef {(parts: string[], signal: AbortSignal) => Page} Show a page for the path's parts, alive until the signal */

/** @returns {string[]} the path's parts, such as `["tenants", "…"]` */
export function parts() {
  const path = location.hash.replace(/^#\/?/, "").split("?")[0] ?? "";
  try {
    return path.split("/").filter(Boolean).map(decodeURIComponent);
  } catch {
    // A percent sign of no character's.
    return [];
  }
}

/** @param {...string} path */
export const href = (...path) => `#/${path.map(encodeURIComponent).join("/")}`;

/** @param {...string} path */
export function go(...path) {
  location.hash = href(...path);
}
