// A small chart of one figure over the last minutes.

import { brief, hourAndMinute, timeOfDay } from "../app/words.js";
import { fill, h, svg } from "./dom.js";

/** @typedef {{at: number, value: number | undefined}} Sample a value that is not known is a gap */

const HEIGHT = 150;
const LEFT = 46;
const RIGHT = 8;
const TOP = 10;
const BOTTOM = 22;
/** What a time below takes. */
const LABEL = 90;

/** What was measured, for as long as a chart shows. */
export class Series {
  /** @param {number} windowMs */
  constructor(windowMs) {
    this.windowMs = windowMs;
    /** @type {Sample[]} */
    this.samples = [];
  }

  /** @param {number | undefined} value */
  add(value, at = Date.now()) {
    this.samples.push({ at, value });
    // One more than fits, for the line to come from the edge.
    while (this.samples[1] && this.samples[1].at < at - this.windowMs) this.samples.shift();
  }
}

/**
 * A round number at or above `value`, and the step of its lines.
 * @param {number} value
 * @returns {{top: number, step: number}}
 */
export function scale(value) {
  const wanted = Math.max(value, 1) / 3;
  const power = 10 ** Math.floor(Math.log10(wanted));
  const step = Math.max(1, [1, 2, 5, 10].map((factor) => factor * power).find((one) => one >= wanted) ?? wanted);
  return { top: Math.ceil(Math.max(value, 1) / step) * step, step };
}

/**
 * @param {string} name
 * @param {string} unit behind the figure, such as "/s"
 * @param {Series} series
 */
export function chart(name, unit, series) {
  const picture = svg("svg", { height: HEIGHT, role: "img", class: "chart" });
  const figure = h("span", { class: "figure" });
  const note = h("span", { class: "muted small" });
  const element = h("figure", { class: "card" }, h("figcaption", null, h("span", { class: "label" }, name), figure, note), picture);

  let width = 560;
  /** @param {number} at */
  const x = (at) => LEFT + (1 - (newest() - at) / series.windowMs) * (width - LEFT - RIGHT);
  const newest = () => series.samples.at(-1)?.at ?? Date.now();
  /** @type {number | null} */
  let pointed = null;

  const draw = () => {
    const known = series.samples.flatMap(({ value }) => (value === undefined ? [] : [value]));
    const { top, step } = scale(Math.max(0, ...known));
    /** @param {number} value */
    const y = (value) => TOP + (1 - value / top) * (HEIGHT - TOP - BOTTOM);
    const lines = Array.from({ length: Math.round(top / step) + 1 }, (_, line) => line * step);
    const minute = 60_000;
    const room = Math.max(1, Math.floor((width - LEFT - RIGHT) / LABEL));
    const every = Math.ceil(series.windowMs / minute / room) * minute;
    const first = Math.ceil((newest() - series.windowMs) / every) * every;
    const minutes = Array.from({ length: Math.floor(series.windowMs / every) + 1 }, (_, n) => first + n * every);
    const near = pointed === null ? undefined : nearest(pointed);
    const last = series.samples.at(-1)?.value;
    const marked = near ?? series.samples.at(-1);

    picture.replaceChildren(
      svg("g", { class: "grid" }, lines.map((value) => svg("path", { d: `M${LEFT} ${y(value)}H${width - RIGHT}` }))),
      svg("g", { class: "axis" }, lines.map((value) => svg("text", { x: LEFT - 6, y: y(value) + 4, "text-anchor": "end" }, brief(value)))),
      svg("g", { class: "axis" }, minutes.filter((at) => x(at) < width - 30 && x(at) > LEFT + 10).map((at) => svg("text", { x: x(at), y: HEIGHT - 6, "text-anchor": "middle" }, hourAndMinute(at)))),
      ...runs(series.samples).flatMap((run) => {
        const line = run.map(({ at, value }) => `${Math.max(LEFT, x(at)).toFixed(1)} ${y(value).toFixed(1)}`).join("L");
        const from = Math.max(LEFT, x(run[0]?.at ?? 0)).toFixed(1);
        const to = x(run.at(-1)?.at ?? 0).toFixed(1);
        return [svg("path", { class: "area", d: `M${from} ${y(0)}L${line}L${to} ${y(0)}Z` }), svg("path", { class: "line", d: `M${line}` })];
      }),
      ...(near ? [svg("path", { class: "pointer", d: `M${x(near.at)} ${TOP}V${HEIGHT - BOTTOM}` })] : []),
      ...(marked?.value === undefined ? [] : [svg("circle", { class: "dot", cx: x(marked.at), cy: y(marked.value), r: 3.5 })]),
    );
    const shown = near ?? { at: newest(), value: last };
    fill(figure, shown.value === undefined ? "–" : `${brief(shown.value)}${unit}`);
    fill(note, near ? `at ${timeOfDay(near.at)}` : known.length === 0 && series.samples.length > 0 ? "not known at the moment" : "");
    const range = known.length === 0 ? "nothing known yet" : `now ${last === undefined ? "not known" : brief(last) + unit}, highest ${brief(Math.max(...known))}${unit}, lowest ${brief(Math.min(...known))}${unit}`;
    picture.setAttribute("aria-label", `${name}, last ${Math.round(series.windowMs / minute)} minutes: ${range}`);
  };

  /** @param {number} at */
  const nearest = (at) =>
    series.samples.reduce((/** @type {Sample | undefined} */ best, one) => (best && Math.abs(best.at - at) <= Math.abs(one.at - at) ? best : one), undefined);

  picture.addEventListener("pointermove", (event) => {
    const box = picture.getBoundingClientRect();
    const share = ((event.clientX - box.left) / box.width) * width;
    pointed = newest() - (1 - (share - LEFT) / (width - LEFT - RIGHT)) * series.windowMs;
    draw();
  });
  picture.addEventListener("pointerleave", () => {
    pointed = null;
    draw();
  });
  // One unit is one pixel, so that text and lines keep their size.
  new ResizeObserver(() => {
    width = Math.max(200, picture.clientWidth);
    picture.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    draw();
  }).observe(picture);
  return { element, draw };
}

/**
 * The stretches without a gap.
 * @param {Sample[]} samples
 */
export function runs(samples) {
  /** @type {{at: number, value: number}[][]} */
  const all = [[]];
  for (const { at, value } of samples) {
    if (value === undefined) all.push([]);
    else all.at(-1)?.push({ at, value });
  }
  return all.filter((run) => run.length > 0);
}
