import assert from "node:assert/strict";
import { test } from "node:test";

import { elements, fault, members, oneLine, pretty } from "../../control-plane/console/app/exact.js";

const set = (/** @type {string} */ text) => Array.from(pretty(text), (piece) => piece.text).join("");

test("numbers stay the text they were", () => {
  const text = '{"a":12345678901234567890.10,"b":[1e400,-0.0,1.50],"c":9007199254740993}';
  assert.equal(oneLine(text), '{"a": 12345678901234567890.10, "b": [1e400, -0.0, 1.50], "c": 9007199254740993}');
  assert.equal(set(text).replaceAll(/\s/g, ""), text);
});

test("a value is set in lines, and empty ones are not", () => {
  assert.equal(set('{"a":{},"b":[],"c":[1,{"d":null}]}'), '{\n  "a": {},\n  "b": [],\n  "c": [\n    1,\n    {\n      "d": null\n    }\n  ]\n}');
  assert.equal(set(" true "), "true");
});

test("what JSON.parse takes is taken, and what it refuses is refused", () => {
  const good = ["0", "-1", "1.5e+3", '""', '"\\u00e4\\n"', "[]", "{}", "[[],{}]", ' { "a" : [ 1 , "}" ] } ', '"\u2028"', "null"];
  const bad = ["", " ", "01", "1.", ".5", "+1", "1 2", "[1,]", "[,1]", "{,}", '{"a"}', '{"a":}', "{a:1}", '{"a":1,}', "[1", "]", "[}", '{"a":1]', '"', '"\n"', '"\\x"', '"\\u12"', "nul", "True", "NaN", "[1 2]", '{"a" 1}', "1,2"];
  for (const text of good) {
    JSON.parse(text);
    assert.equal(fault(text), null, text);
  }
  for (const text of bad) {
    assert.throws(() => JSON.parse(text));
    assert.notEqual(fault(text), null, text);
  }
});

test("what is wrong is said with its place", () => {
  assert.equal(fault('{\n  "a": nul\n}'), 'line 2, column 8: a JSON value is expected here, not "n"');
  assert.equal(fault("[1, 2"), "line 1, column 6: a comma or ] is expected here, but the text ends");
  assert.equal(fault("{} {}"), 'line 1, column 4: the end is expected here, not "{"');
});

test("members and elements are cut out as they stand", () => {
  const found = members('{ "a" : 1.0 , "payload":{"payload":[1, 2], "x":"}"} , "\\u0061": [ ] }');
  assert.deepEqual([...found], [["a", "[ ]"], ["payload", '{"payload":[1, 2], "x":"}"}']]);
  assert.deepEqual(elements(' [ {"a":1} , "b,]" , 3.0 ] '), ['{"a":1}', '"b,]"', "3.0"]);
  assert.deepEqual(elements("[]"), []);
  assert.deepEqual([...members("{}")], []);
  assert.throws(() => members("[1]"), /an object is expected/);
  assert.throws(() => elements('"a"'), /a list is expected/);
});

test("neither depth nor length is too much", () => {
  const deep = "[".repeat(100_000) + "]".repeat(100_000);
  assert.equal(fault(deep), null);
  assert.ok(set(deep).length > deep.length);
  const long = JSON.stringify("ä\\".repeat(1 << 20));
  assert.equal(fault(long), null);
  assert.equal(oneLine(long, 10).length, 11);
  assert.notEqual(fault(long.slice(0, -1)), null);
});
