// Sending dead letters again, call after call until none is left, with how far it is.

import { isLeft } from "../../app/api.js";
import { letters } from "../../app/calls.js";
import { counted, number, reason as reasonWords } from "../../app/words.js";
import { open } from "../../parts/dialog.js";
import { h } from "../../parts/dom.js";
import { field, form } from "../../parts/field.js";
import { meter } from "../../parts/meter.js";
import { notify } from "../../parts/notice.js";

/** @typedef {{ids?: string[], all?: boolean, reason?: string, per_second?: number}} What */

/** What the API takes. */
const PER_SECOND_MAX = 1_000_000;

/**
 * @param {object} options
 * @param {string} options.id
 * @param {AbortSignal} options.signal
 * @param {() => void} options.onDone
 * @param {(error: unknown) => void} options.onFailure
 */
export function replaying({ id, signal, onDone, onFailure }) {
  const progress = meter("Replaying");
  const stop = h("button", { type: "button" }, "Stop");
  const element = h("div", { class: "banner progress", role: "status", hidden: true }, progress.element, stop);
  let isRunning = false;

  /** @param {What} what */
  const run = async (what) => {
    if (isRunning) return notify("A replay is under way here. Wait for its end, or stop it.", "plain");
    isRunning = true;
    const stopped = new AbortController();
    const halt = () => stopped.abort();
    stop.addEventListener("click", halt);
    element.hidden = false;
    progress.set(0, 1, "Replaying…");
    let replayed = 0;
    try {
      for (;;) {
        // A call that is under way is let end: what it did is to be told.
        const answer = await letters.replay(id, what, signal);
        replayed += answer.replayed;
        progress.set(replayed, replayed + answer.remaining, `${number(replayed)} replayed, ${number(answer.remaining)} left`);
        const isOver = answer.remaining === 0 || answer.replayed === 0;
        if (isOver || stopped.signal.aborted || signal.aborted) {
          const left = answer.remaining > 0 ? ` ${counted(answer.remaining, "is", "are")} left.` : "";
          notify(`${counted(replayed, "dead letter")} replayed.${left} What fails again comes back.`, answer.remaining > 0 ? "plain" : "good");
          break;
        }
      }
      onDone();
    } catch (error) {
      if (!isLeft(error)) onFailure(error);
    } finally {
      isRunning = false;
      element.hidden = true;
      stop.removeEventListener("click", halt);
    }
  };

  /**
   * @param {string | undefined} reason
   * @param {number | undefined} waiting
   */
  const ask = (reason, waiting) => {
    const pace = field("At most a second", h("input", { type: "text", inputmode: "numeric", autocomplete: "off", placeholder: "as fast as it goes" }), "So that what they need is not flooded; may be empty.");
    const which = reason ? `Every dead letter with the reason “${reasonWords(reason)}”` : waiting === undefined ? "Every dead letter" : `${waiting === 1 ? "The 1 dead letter" : `All ${counted(waiting, "dead letter")}`}`;
    const body = form(
      {
        submit: "Replay",
        fields: { per_second: pace },
        act: async () => {
          const text = pace.control.value.replace(/[\s,]/g, "");
          if (text && (!/^[0-9]+$/.test(text) || Number(text) < 1 || Number(text) > PER_SECOND_MAX)) return pace.complain(`Enter a whole number from 1 to ${number(PER_SECOND_MAX)}, or leave it empty.`);
          box.close();
          void run({ all: true, reason, per_second: text ? Number(text) : undefined });
        },
      },
      h("p", null, `${which} will be sent through the tenant's queue again, with the attempts counted anew. One that fails again is a dead letter again.`),
      pace.element,
    );
    const box = open("Replay dead letters", body.element);
  };
  return { element, run, ask };
}
