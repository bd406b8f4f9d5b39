// Asks again and again, for as long as somebody looks.

import { Problem, isLeft } from "./api.js";

/**
 * Runs `ask` at once and then `everyMs` after each answer, until the signal is aborted. A tab that is not seen rests.
 * After failures it goes on, more seldom. `again` asks now.
 * @param {(signal: AbortSignal) => Promise<void>} ask
 * @param {{everyMs: number | (() => number), signal: AbortSignal, onFailure: (problem: Problem) => void}} options
 * @returns {{again: () => void}}
 */
export function poll(ask, { everyMs, signal, onFailure }) {
  /** @type {() => void} */
  let wake = () => {};
  let asked = false;
  let failures = 0;

  const run = async () => {
    while (!signal.aborted) {
      asked = false;
      try {
        await ask(signal);
        failures = 0;
      } catch (error) {
        if (signal.aborted || isLeft(error)) return;
        if (!(error instanceof Problem)) throw error;
        failures += 1;
        onFailure(error);
      }
      const pause = typeof everyMs === "function" ? everyMs() : everyMs;
      await rest(Math.min(pause * 2 ** Math.min(failures, 4), Math.max(pause, 15_000)));
    }
  };

  /** @param {number} ms */
  const rest = (ms) =>
    new Promise((resolve) => {
      const done = () => {
        clearTimeout(timer);
        document.removeEventListener("visibilitychange", seen);
        signal.removeEventListener("abort", done);
        resolve(undefined);
      };
      const seen = () => {
        if (!document.hidden && over) done();
      };
      let over = false;
      const timer = setTimeout(() => {
        over = true;
        seen();
      }, asked ? 0 : ms);
      document.addEventListener("visibilitychange", seen);
      signal.addEventListener("abort", done);
      wake = done;
    });

  void run();
  return {
    again: () => {
      asked = true;
      wake();
    },
  };
}
