// Server-sent events, read through fetch: an EventSource cannot send a token.

import { refused, unreachable } from "./api.js";
import { session } from "./session.js";

/** A stream says something each 15 seconds; silence much longer is a connection that is dead. */
const SILENCE_MS = 45_000;

/** Cuts a stream's text into events. */
export class EventReader {
  #rest = "";
  #id = "";
  /** @type {string[]} */
  #data = [];

  /**
   * The events that are complete with this piece of text.
   * @param {string} piece
   * @returns {{id: string, data: string}[]}
   */
  push(piece) {
    const lines = (this.#rest + piece).split(/\r\n|\n|\r(?!$)/);
    this.#rest = lines.pop() ?? "";
    /** @type {{id: string, data: string}[]} */
    const events = [];
    for (const line of lines) {
      if (line === "") {
        if (this.#data.length > 0) events.push({ id: this.#id, data: this.#data.join("\n") });
        this.#data = [];
        continue;
      }
      const colon = line.indexOf(":");
      const name = colon < 0 ? line : line.slice(0, colon);
      const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
      if (name === "id") this.#id = value;
      if (name === "data") this.#data.push(value);
    }
    return events;
  }
}

/**
 * Reads a stream until it ends, the signal is aborted or it fails.
 * @param {string} path
 * @param {{signal: AbortSignal, onOpen: () => void, onEvent: (event: {id: string, data: string}) => void}} options
 * @returns {Promise<void>}
 */
export async function readEvents(path, { signal, onOpen, onEvent }) {
  const silent = new AbortController();
  let timer = setTimeout(() => silent.abort(), SILENCE_MS);
  try {
    const answer = await fetch(path, {
      headers: { accept: "text/event-stream", authorization: `Bearer ${session()?.token ?? ""}` },
      cache: "no-store",
      credentials: "omit",
      signal: AbortSignal.any([signal, silent.signal]),
    });
    if (!answer.ok) throw refused(answer, await answer.text(), true);
    onOpen();
    const reader = answer.body?.pipeThrough(new TextDecoderStream()).getReader();
    const events = new EventReader();
    while (reader) {
      const { done, value } = await reader.read();
      if (done) return;
      clearTimeout(timer);
      timer = setTimeout(() => silent.abort(), SILENCE_MS);
      for (const event of events.push(value)) onEvent(event);
    }
  } catch (error) {
    throw unreachable(error, signal);
  } finally {
    clearTimeout(timer);
  }
}
