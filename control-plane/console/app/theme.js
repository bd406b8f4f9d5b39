// Light or dark: the system's unless somebody chose.

/** @typedef {"system" | "light" | "dark"} Theme */

const KEY = "jalur.theme";

/** @returns {Theme} */
export function theme() {
  const kept = localStorage.getItem(KEY);
  return kept === "light" || kept === "dark" ? kept : "system";
}

/** @param {Theme} chosen */
export function setTheme(chosen) {
  if (chosen === "system") localStorage.removeItem(KEY);
  else localStorage.setItem(KEY, chosen);
  applyTheme();
}

/** @param {Theme} one */
export const themeWord = (one) => ({ system: "Auto", light: "Light", dark: "Dark" })[one];

export function applyTheme() {
  document.documentElement.dataset.theme = theme();
}
