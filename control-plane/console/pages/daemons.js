// The ingest daemons: what each runs, and taking it all off one.

import { daemons } from "../app/calls.js";
import { poll } from "../app/poll.js";
import { counted, number } from "../app/words.js";
import { daemonState } from "../parts/badge.js";
import { ask } from "../parts/dialog.js";
import { fill, h } from "../parts/dom.js";
import { working } from "../parts/field.js";
import { meter } from "../parts/meter.js";
import { notify } from "../parts/notice.js";
import { empty, loading, trouble } from "../parts/state.js";
import { time } from "../parts/time.js";

/** @import { Daemon } from "../app/types.js" */

const EVERY_MS = 2_000;

/**
 * @param {AbortSignal} signal
 * @returns {import("../app/router.js").Page}
 */
export function daemonsPage(signal) {
  const wrong = trouble();
  const count = h("p", { class: "muted", role: "status" });
  const body = h("div", null, loading("daemons"));
  /** How many lanes those had that were drained from here. @type {Map<string, number>} */
  const draining = new Map();
  /** @type {Map<string, ReturnType<typeof card>>} */
  let cards = new Map();

  const asked = poll(
    async (asking) => {
      const all = await daemons.list(asking);
      wrong.clear();
      fill(count, counted(all.length, "daemon"));
      if (all.length === 0) {
        cards = new Map();
        fill(body, empty("No daemon is alive", "Messages wait in their queues until one is. Start an ingest daemon with this control plane among its endpoints."));
        return;
      }
      const next = new Map(all.map((daemon) => [daemon.id, cards.get(daemon.id) ?? card(daemon.id, draining, () => asked.again(), wrong.show)]));
      const same = next.size === cards.size && [...next.keys()].every((id) => cards.has(id));
      cards = next;
      if (!same || body.querySelector(".loading")) fill(body, h("ul", { class: "cards" }, [...cards.values()].map((one) => one.element)));
      const capacity = all.filter((daemon) => daemon.state === "ready").length;
      for (const daemon of all) cards.get(daemon.id)?.set(daemon, capacity);
    },
    { everyMs: EVERY_MS, signal, onFailure: wrong.show },
  );
  const element = h("section", null, h("div", { class: "head" }, h("h1", null, "Daemons"), count), wrong.element, body);
  return { title: "Daemons", element };
}

/**
 * @param {string} id
 * @param {Map<string, number>} draining
 * @param {() => void} again
 * @param {(error: unknown) => void} fail
 */
function card(id, draining, again, fail) {
  const state = h("span");
  const joined = h("p", { class: "muted small" });
  const lanes = h("dd");
  const used = meter(`Workers of ${id}`);
  const progress = meter(`Draining ${id}`);
  const button = h("button", { type: "button" });
  const element = h(
    "li",
    { class: "card daemon" },
    h("div", { class: "card-head" }, h("h2", null, id), state),
    h("dl", { class: "pairs" }, h("dt", null, "Lanes"), lanes, h("dt", null, "Workers"), h("dd", null, used.element)),
    progress.element,
    h("div", { class: "card-foot" }, joined, button),
  );
  /** @type {Daemon | null} */
  let now = null;
  let ready = 0;

  const drain = () => {
    const lanesNow = now?.lanes ?? 0;
    const others = ready > 1 ? "Other daemons take them over, as far as they have the capacity." : "No other daemon takes lanes: their messages will wait in their queues until one does.";
    ask({
      title: `Drain ${id}?`,
      text: `All ${counted(lanesNow, "lane")} are taken off it, so that it can be stopped. ${others} It gets none again until it is restarted or undrained.`,
      yes: "Drain",
      act: async () => {
        draining.set(id, lanesNow);
        // The answer comes when it is done, or after ten seconds: the page shows how far it is meanwhile.
        daemons.drain(id).then(
          (daemon) => {
            notify(daemon.lanes === 0 ? `${id} is drained and can be stopped.` : `${id} still has ${counted(daemon.lanes, "lane")}; it goes on.`, daemon.lanes === 0 ? "good" : "plain");
            again();
          },
          (error) => {
            draining.delete(id);
            fail(error);
          },
        );
        again();
      },
    });
  };
  const undrain = () =>
    working(
      button,
      "Undraining…",
      async () => {
        await daemons.undrain(id);
        draining.delete(id);
        notify(`${id} takes lanes again.`);
        again();
      },
      fail,
    );
  button.addEventListener("click", () => (now?.state === "draining" ? void undrain() : drain()));

  return {
    element,
    /** @param {Daemon} daemon @param {number} readyNow */
    set(daemon, readyNow) {
      now = daemon;
      ready = readyNow;
      fill(state, daemonState(daemon.state));
      fill(joined, "Joined ", time(daemon.joined_at));
      fill(lanes, number(daemon.lanes));
      used.set(daemon.workers, daemon.capacity, `${number(daemon.workers)} of ${number(daemon.capacity)}`);
      const isDraining = daemon.state === "draining";
      progress.element.hidden = !isDraining;
      if (isDraining) {
        const from = Math.max(draining.get(id) ?? daemon.lanes, daemon.lanes);
        draining.set(id, from);
        progress.set(from - daemon.lanes, from, daemon.lanes === 0 ? "Drained: it can be stopped." : `${counted(daemon.lanes, "lane")} left of ${number(from)}`);
        if (from === 0) progress.set(1, 1, "Drained: it can be stopped.");
      }
      if (!button.disabled) fill(button, isDraining ? "Undrain" : "Drain");
    },
  };
}
