// A tenant's dead letters: read, sent again, and deleted.

import { isLeft } from "../../app/api.js";
import { letters } from "../../app/calls.js";
import { REASON_WORDS, counted, number, reason as reasonWords } from "../../app/words.js";
import { ask } from "../../parts/dialog.js";
import { fill, h } from "../../parts/dom.js";
import { select, working } from "../../parts/field.js";
import { notify } from "../../parts/notice.js";
import { empty, failed, loading, trouble } from "../../parts/state.js";
import { letterEntry } from "./letter.js";
import { replaying } from "./replay.js";

/** @import { DeadLetter } from "../../app/types.js" */

const PAGE = 50;

/** @param {import("./page.js").Context} context */
export function lettersSection({ id, signal, watch, now, again }) {
  const wrong = trouble();
  const list = h("ol", { class: "feed", "aria-label": "Dead letters, oldest first" });
  const state = h("div", null, loading("dead letters"));
  const count = h("p", { class: "muted", role: "status" });
  const more = h("button", { type: "button" }, "More");
  const foot = h("div", { class: "actions", hidden: true }, more);
  const which = select([["", "Every reason"], ...REASON_WORDS.map((word) => /** @type {[string, string]} */ ([word, reasonWords(word)]))]);
  which.id = "reason";
  const selected = h("button", { type: "button", disabled: true }, "Replay selected");
  const all = h("button", { type: "button" }, "Replay all…");
  const purge = h("button", { type: "button", class: "danger" }, "Purge…");
  const renew = h("button", { type: "button" }, "Refresh");
  const replay = replaying({ id, signal, onDone: () => void load(), onFailure: wrong.show });

  /** @type {Set<string>} */
  const chosen = new Set();
  /** @type {string | undefined} */
  let pageToken;
  let asked = new AbortController();
  /** How many there were at the last answer. */
  let seen = now()?.runtime?.dead_letters;
  let isLoading = false;

  watch((tenant) => {
    const waiting = tenant.runtime?.dead_letters;
    fill(count, waiting === undefined ? "" : `${counted(waiting, "dead letter")} in all`);
    all.disabled = waiting === 0;
    purge.disabled = waiting === 0;
    // The first ones that come, as after a replay that failed again, are shown without being asked for.
    const hasCome = waiting !== undefined && waiting > 0 && waiting !== seen;
    seen = waiting;
    if (hasCome && !which.value && !isLoading && list.childElementCount === 0) void load();
  });
  const reason = () => which.value || undefined;
  /** @param {string} text */
  const ofReason = (text) => (which.value ? `${text} with the reason “${reasonWords(which.value)}”` : text);

  const mark = () => {
    selected.disabled = chosen.size === 0;
    fill(selected, chosen.size === 0 ? "Replay selected" : `Replay ${number(chosen.size)} selected`);
  };
  const next = async () => {
    const page = await letters.list(id, { limit: PAGE, page_token: pageToken, reason: reason() }, AbortSignal.any([signal, asked.signal]));
    pageToken = page.next_page_token || undefined;
    list.append(...page.dead_letters.map((letter) => letterEntry(letter, { id, signal, chosen, onChoice: mark, onRemoved, onReplay: one, onFailure: wrong.show })));
    foot.hidden = pageToken === undefined;
    if (list.childElementCount > 0) fill(state);
    else fill(state, which.value ? empty("None", ofReason("There are no dead letters") + ".") : empty("No dead letters", "Messages that fail for good come here, with the reason, until somebody looks at them."));
  };
  const load = async () => {
    asked.abort();
    asked = new AbortController();
    pageToken = undefined;
    chosen.clear();
    mark();
    list.replaceChildren();
    foot.hidden = true;
    wrong.clear();
    fill(state, loading("dead letters"));
    again();
    isLoading = true;
    try {
      await next();
    } catch (error) {
      if (isLeft(error)) return;
      fill(state, failed(error, () => void load()));
    } finally {
      isLoading = false;
    }
  };
  const onRemoved = () => {
    again();
    if (list.childElementCount === 0) void load();
    mark();
  };
  /** @param {DeadLetter} letter */
  const one = (letter) => replay.run({ ids: [letter.id] });

  which.addEventListener("change", () => void load());
  renew.addEventListener("click", () => void load());
  more.addEventListener("click", () => void working(more, "Loading…", next, (error) => isLeft(error) || wrong.show(error)));
  selected.addEventListener("click", () => replay.run({ ids: [...chosen] }));
  all.addEventListener("click", () => replay.ask(reason(), now()?.runtime?.dead_letters));
  purge.addEventListener("click", () => {
    const waiting = now()?.runtime?.dead_letters;
    const what = which.value
      ? ofReason("Every dead letter")
      : waiting === undefined
        ? "Every dead letter; how many there are is not known at the moment,"
        : `${waiting === 1 ? "The 1 dead letter" : `All ${counted(waiting, "dead letter")}`}`;
    ask({
      title: which.value ? `Purge “${reasonWords(which.value)}”?` : waiting === undefined ? "Purge all dead letters?" : `Purge ${counted(waiting, "dead letter")}?`,
      text: `${what} of ${now()?.name ?? "this tenant"} will be deleted for good. Messages that are stored stay.`,
      yes: which.value || waiting === undefined ? "Purge" : `Purge ${number(waiting)}`,
      busy: "Purging…",
      act: async () => {
        const { purged, remaining = 0 } = await letters.purge(id, reason());
        notify(`${counted(purged, "dead letter")} deleted.${remaining > 0 ? " There may be more: purge again to go on." : ""}`);
        await load();
      },
    });
  });

  void load();
  return h(
    "div",
    null,
    h("div", { class: "tools" }, h("div", null, h("label", { for: "reason" }, "Reason"), which), renew, count, h("div", { class: "push" }, selected, all, purge)),
    replay.element,
    wrong.element,
    state,
    list,
    foot,
  );
}
