// The wordmark: lanes, and the name drawn in their stroke.

import { svg } from "./dom.js";

export function logo() {
  const lane = (/** @type {string} */ d, /** @type {string} */ kind) => svg("path", { d, class: kind });
  return svg(
    "svg",
    { viewBox: "0 0 152 48", class: "logo", role: "img", "aria-label": "Jalur" },
    lane("M4 14h15", "lane quiet"),
    lane("M4 24h27", "lane"),
    lane("M4 34h10", "lane quiet"),
    lane("M58 9v22a8 8 0 0 1-8 8h-2", "letter"),
    lane("M88 29.500a9.500 9.500 0 1 1-19 0a9.500 9.500 0 1 1 19 0M88 20v19", "letter"),
    lane("M98 9v30", "letter"),
    lane("M108 20v9.500a9.500 9.500 0 0 0 19 0V20M127 20v19", "letter"),
    lane("M137 20v19M137 29.500a9.500 9.500 0 0 1 9.500-9.500", "letter"),
  );
}
