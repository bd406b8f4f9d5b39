// A table of any length: only the rows that are seen are elements. It scrolls with the page.

import { fill, h } from "./dom.js";

/**
 * @template Row
 * @typedef {object} Column
 * @property {string} key
 * @property {string} title
 * @property {(row: Row) => import("./dom.js").Child | import("./dom.js").Child[]} cell
 * @property {(row: Row) => string | number | undefined} by what it is sorted by; what is not known comes last
 * @property {boolean} [number] set to the right, and sorted from the most on
 * @property {boolean} [wide] left out where there is little room
 */

/** Rows beyond those that are seen, on each side. */
const MARGIN = 12;

/**
 * @template Row
 * @param {object} options
 * @param {string} options.name
 * @param {Column<Row>[]} options.columns
 * @param {(row: Row) => string} options.key
 * @param {(row: Row) => string} options.label what a phone shows below the first cell
 * @param {{key: string, down: boolean}} options.sort
 * @param {(sort: {key: string, down: boolean}) => void} options.onSort
 * @param {AbortSignal} options.signal
 */
export function grid({ name, columns, key, label, sort, onSort, signal }) {
  const narrow = matchMedia("(max-width: 720px)");
  /** @type {Row[]} */
  let rows = [];
  /** @type {Row[]} */
  let sorted = [];
  /** @type {Map<string, HTMLElement>} */
  let shown = new Map();

  const heads = columns.map((column) => {
    const button = h("button", { type: "button", class: "sort", onclick: () => turn(column) }, column.title);
    return h("div", { role: "columnheader", class: classes(column) }, button);
  });
  const head = h("div", { role: "rowgroup", class: "grid-head" }, h("div", { role: "row", "aria-rowindex": 1, class: "grid-row" }, heads));
  const body = h("div", { role: "rowgroup", class: "grid-body" });
  const element = h("div", { role: "table", "aria-label": name, "aria-colcount": columns.length, class: "grid" }, head, body);

  /** @param {Column<Row>} column */
  function classes(column) {
    return `grid-cell${column.number ? " number" : ""}${column.wide ? " wide" : ""}`;
  }

  /** @param {Column<Row>} column */
  function turn(column) {
    const again = sort.key === column.key;
    sort = { key: column.key, down: again ? !sort.down : column.number === true };
    onSort(sort);
    arrange();
  }

  const collator = new Intl.Collator(undefined, { numeric: true, sensitivity: "base" });
  function arrange() {
    const column = columns.find((one) => one.key === sort.key) ?? columns[0];
    if (!column) return;
    const keyed = rows.map((row) => ({ row, by: column.by(row) }));
    const sign = sort.down ? -1 : 1;
    keyed.sort((one, other) => {
      if (one.by === undefined || other.by === undefined) return Number(one.by === undefined) - Number(other.by === undefined);
      if (typeof one.by === "number" && typeof other.by === "number") return sign * (one.by - other.by);
      return sign * collator.compare(String(one.by), String(other.by));
    });
    sorted = keyed.map(({ row }) => row);
    heads.forEach((cell, at) => {
      const chosen = columns[at]?.key === sort.key;
      if (chosen) cell.setAttribute("aria-sort", sort.down ? "descending" : "ascending");
      else cell.removeAttribute("aria-sort");
    });
    draw(true);
  }

  const height = () => (narrow.matches ? 58 : 40);

  /** @param {boolean} changed whether rows may hold something else */
  function draw(changed) {
    const rowHeight = height();
    body.style.height = `${sorted.length * rowHeight}px`;
    element.setAttribute("aria-rowcount", String(sorted.length + 1));
    const above = -body.getBoundingClientRect().top;
    const first = Math.max(0, Math.floor(above / rowHeight) - MARGIN);
    const last = Math.min(sorted.length, Math.ceil((above + window.innerHeight) / rowHeight) + MARGIN);
    /** @type {Map<string, HTMLElement>} */
    const next = new Map();
    for (let at = first; at < last; at += 1) {
      const row = sorted[at];
      if (row === undefined) continue;
      const id = key(row);
      const kept = shown.get(id);
      const line = kept ?? h("div", { role: "row", class: "grid-row" });
      if (!kept || changed) write(line, row);
      line.setAttribute("aria-rowindex", String(at + 2));
      line.style.transform = `translateY(${at * rowHeight}px)`;
      next.set(id, line);
    }
    for (const [id, line] of shown) if (!next.has(id)) line.remove();
    // In their order, for who goes through them by keyboard; what stands right is left alone and keeps its focus.
    let before = /** @type {Element | null} */ (null);
    for (const line of next.values()) {
      const place = before ? before.nextElementSibling : body.firstElementChild;
      if (place !== line) body.insertBefore(line, place);
      before = line;
    }
    shown = next;
  }

  /**
   * @param {HTMLElement} line
   * @param {Row} row
   */
  function write(line, row) {
    if (line.childElementCount === 0) line.append(...columns.map((column) => h("div", { role: "cell", class: classes(column) })), h("div", { class: "grid-label", "aria-hidden": "true" }));
    columns.forEach((column, at) => {
      const cell = line.children[at];
      if (!cell) return;
      const content = h("div", null, column.cell(row));
      // What is as it was is left alone: it may have the focus.
      if (cell.innerHTML !== content.innerHTML) cell.replaceChildren(...content.childNodes);
    });
    const last = line.lastElementChild;
    if (last) fill(last, label(row));
  }

  let asked = 0;
  const later = () => {
    if (!asked) asked = requestAnimationFrame(() => {
      asked = 0;
      draw(false);
    });
  };
  window.addEventListener("scroll", later, { passive: true, signal });
  window.addEventListener("resize", later, { signal });
  narrow.addEventListener("change", later, { signal });
  element.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    const line = /** @type {HTMLElement} */ (event.target).closest(".grid-body .grid-row");
    if (!step || !line) return;
    event.preventDefault();
    const neighbour = step > 0 ? line.nextElementSibling : line.previousElementSibling;
    neighbour?.querySelector("a")?.focus();
  });

  return {
    element,
    /** @param {string} key by its usual way round */
    sortBy(key) {
      const column = columns.find((one) => one.key === key);
      if (column && sort.key !== key) turn(column);
    },
    /** @param {Row[]} all */
    set(all) {
      rows = all;
      arrange();
    },
  };
}
