// Messages as they are stored, for as long as it is switched on.

import { Problem, isLeft } from "../../app/api.js";
import { message, messages } from "../../app/calls.js";
import { readEvents } from "../../app/events.js";
import { number } from "../../app/words.js";
import { fill, h } from "../../parts/dom.js";
import { sentence } from "../../parts/state.js";

/** How often what came is put on the page, and how much of it waits for that at most. */
const EVERY_MS = 150;
const WAITING_MAX = 500;
const RETRY_MS = 2_000;

/**
 * @param {object} options
 * @param {string} options.id
 * @param {AbortSignal} options.signal
 * @param {() => string} options.from the position to begin behind
 * @param {() => Promise<void>} options.onStart
 * @param {(messages: import("../../app/types.js").Message[]) => void} options.onMessages oldest first
 */
export function tail({ id, signal, from, onStart, onMessages }) {
  const button = h("button", { type: "button", "aria-pressed": "false", class: "toggle" }, "Follow");
  const state = h("span", { role: "status", class: "small" }, "");
  /** @type {AbortController | null} */
  let running = null;

  /** @type {string[]} */
  let waiting = [];
  let passed = 0;
  let timer = 0;
  const flush = () => {
    timer = 0;
    if (waiting.length > 0) onMessages(waiting.map(message));
    waiting = [];
    say(passed > 0 ? `Live. ${number(passed)} came too fast to be shown.` : "Live.");
  };
  /** @param {string} text */
  const say = (text) => {
    if (running) fill(state, text);
  };

  const stop = (text = "") => {
    running?.abort();
    running = null;
    button.setAttribute("aria-pressed", "false");
    fill(state, text);
  };
  const start = async () => {
    const mine = new AbortController();
    running = mine;
    passed = 0;
    button.setAttribute("aria-pressed", "true");
    say("Connecting…");
    await onStart();
    const until = AbortSignal.any([signal, mine.signal]);
    let cursor = from();
    while (!until.aborted) {
      try {
        await readEvents(messages.streamPath(id, cursor), {
          signal: until,
          onOpen: () => say("Live."),
          onEvent: (event) => {
            cursor = event.id || cursor;
            waiting.push(event.data);
            if (waiting.length > WAITING_MAX) {
              waiting.shift();
              passed += 1;
            }
            timer ||= setTimeout(flush, EVERY_MS);
          },
        });
      } catch (error) {
        if (until.aborted || isLeft(error)) return;
        if (!(error instanceof Problem)) throw error;
        if (error.status >= 400 && error.status < 500 && error.status !== 429) return stop(sentence(error.message));
      }
      say("The stream ended; connecting again…");
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
  };
  button.addEventListener("click", () => (running ? stop() : void start()));
  signal.addEventListener("abort", () => clearTimeout(timer));
  return { element: h("div", { class: "tail" }, button, state), stop };
}
