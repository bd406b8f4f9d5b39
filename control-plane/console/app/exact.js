// Reads JSON without turning its numbers into JavaScript's, which keep 15 digits: everything stays the text it was.
// Nothing here recurses, so no depth of nesting is too much.

/** Text that is no JSON. */
export class JsonError extends Error {
  /**
   * @param {string} problem
   * @param {string} text
   * @param {number} at where in the text
   */
  constructor(problem, text, at) {
    const before = text.slice(0, at).split("\n");
    const column = (before.at(-1) ?? "").length + 1;
    super(`line ${before.length}, column ${column}: ${problem}`);
    this.name = "JsonError";
    this.at = at;
  }
}

/** @typedef {"{" | "}" | "[" | "]" | "," | ":" | "key" | "string" | "number" | "word"} Kind */
/** @typedef {{kind: Kind, start: number, end: number, depth: number}} Token */

const SPACE = /[ \t\n\r]*/y;
const STRING = /"(?:[^"\\\u0000-\u001f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"/y;
const NUMBER = /-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?/y;
const WORD = /true|false|null/y;

/**
 * The tokens of one JSON value, checked as they come. `depth` is how many objects and lists stand around a token.
 * @param {string} text
 * @returns {Generator<Token, void, void>}
 */
export function* tokens(text) {
  /** @type {("{" | "[")[]} */
  const open = [];
  /** @type {"value" | "first" | "firstKey" | "key" | "colon" | "after"} */
  let wanted = "value";
  let at = 0;

  /** @param {RegExp} pattern sticky */
  const match = (pattern) => {
    pattern.lastIndex = at;
    return pattern.exec(text)?.[0].length ?? -1;
  };
  /** @param {string} what */
  const expected = (what) => {
    const found = at < text.length ? `not ${JSON.stringify(text[at])}` : "but the text ends";
    return new JsonError(`${what} is expected here, ${found}`, text, at);
  };
  /**
   * @param {Kind} kind
   * @param {number} length
   * @returns {Token}
   */
  const token = (kind, length) => {
    const start = at;
    at += length;
    return { kind, start, end: at, depth: open.length };
  };

  for (;;) {
    at += match(SPACE);
    const next = text[at];
    if (wanted === "after") {
      const inside = open.at(-1);
      if (inside === undefined) {
        if (at < text.length) throw expected("the end");
        return;
      }
      if (next === ",") {
        yield token(",", 1);
        wanted = inside === "{" ? "key" : "value";
      } else if (next === (inside === "{" ? "}" : "]")) {
        open.pop();
        yield token(next, 1);
      } else {
        throw expected(inside === "{" ? "a comma or }" : "a comma or ]");
      }
    } else if (wanted === "colon") {
      if (next !== ":") throw expected("a colon");
      yield token(":", 1);
      wanted = "value";
    } else if (wanted === "key" || wanted === "firstKey") {
      if (next === "}" && wanted === "firstKey") {
        open.pop();
        yield token("}", 1);
        wanted = "after";
        continue;
      }
      const length = match(STRING);
      if (length < 0) throw expected(next === '"' ? "a string that ends" : "a name in double quotes");
      yield token("key", length);
      wanted = "colon";
    } else if (next === "{" || next === "[") {
      yield token(next, 1);
      open.push(next);
      wanted = next === "{" ? "firstKey" : "first";
    } else if (next === "]" && wanted === "first") {
      open.pop();
      yield token("]", 1);
      wanted = "after";
    } else {
      const [kind, pattern] = /** @type {[Kind, RegExp]} */ (
        next === '"' ? ["string", STRING] : next === "t" || next === "f" || next === "n" ? ["word", WORD] : ["number", NUMBER]
      );
      const length = match(pattern);
      if (length < 0) throw expected(next === '"' ? "a string that ends" : "a JSON value");
      yield token(kind, length);
      wanted = "after";
    }
  }
}

/**
 * What is wrong with a text that is to be JSON; `null` if nothing is.
 * @param {string} text
 * @returns {string | null}
 */
export function fault(text) {
  try {
    for (const _ of tokens(text));
    return null;
  } catch (error) {
    if (error instanceof JsonError) return error.message;
    throw error;
  }
}

/**
 * The members of an object, each value as the text it is. Of a name that stands there twice the last counts.
 * @param {string} text
 * @returns {Map<string, string>}
 */
export function members(text) {
  /** @type {Map<string, string>} */
  const found = new Map();
  for (const { name, value } of children(text, "{")) found.set(/** @type {string} */ (JSON.parse(name)), value);
  return found;
}

/**
 * The elements of a list, each as the text it is.
 * @param {string} text
 * @returns {string[]}
 */
export function elements(text) {
  return Array.from(children(text, "["), ({ value }) => value);
}

/**
 * @param {string} text
 * @param {"{" | "["} wanted
 */
function* children(text, wanted) {
  let name = "";
  let start = -1;
  for (const token of tokens(text)) {
    if (token.depth === 0) {
      if (token.kind === wanted) continue;
      if (token.kind !== "}" && token.kind !== "]") {
        throw new JsonError(wanted === "{" ? "an object is expected" : "a list is expected", text, token.start);
      }
    }
    const separates = token.depth === 1 && token.kind === ",";
    if (separates || token.depth === 0) {
      if (start >= 0) yield { name, value: text.slice(start, token.start).trimEnd() };
      start = -1;
    } else if (token.depth === 1 && token.kind === "key") {
      name = text.slice(token.start, token.end);
    } else if (start < 0 && token.kind !== ":") {
      start = token.start;
    }
  }
}

/** @typedef {{kind: Kind | "space", text: string}} Piece */

/**
 * A value in one line. Longer than `max` characters it ends with an ellipsis.
 * @param {string} text
 * @param {number} [max]
 * @returns {string}
 */
export function oneLine(text, max = Infinity) {
  let line = "";
  for (const { kind, start, end } of tokens(text)) {
    line += text.slice(start, Math.min(end, start + max + 1));
    if (kind === "," || kind === ":") line += " ";
    if (line.length > max) return `${line.slice(0, max)}…`;
  }
  return line;
}

/**
 * A value's pieces, set in lines.
 * @param {string} text
 * @returns {Generator<Piece, void, void>}
 */
export function* pretty(text) {
  // Deeper than this there is no more room to the right.
  const indent = (/** @type {number} */ depth) => `\n${"  ".repeat(Math.min(depth, 40))}`;
  /** @type {Kind | null} */
  let before = null;
  for (const { kind, start, end, depth } of tokens(text)) {
    const piece = text.slice(start, end);
    const closes = kind === "}" || kind === "]";
    const opened = before === "{" || before === "[";
    if ((opened && !closes) || before === ",") yield { kind: "space", text: indent(depth) };
    else if (closes && !opened) yield { kind: "space", text: indent(depth) };
    else if (before === ":") yield { kind: "space", text: " " };
    yield { kind, text: piece };
    before = kind;
  }
}
