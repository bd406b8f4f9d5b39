import assert from "node:assert/strict";
import { test } from "node:test";

import { EventReader } from "../../control-plane/console/app/events.js";
import { claims } from "../../control-plane/console/app/session.js";
import { duration, size } from "../../control-plane/console/app/words.js";
import { Series, runs, scale } from "../../control-plane/console/parts/chart.js";

test("events are cut out of a stream, however it comes in pieces", () => {
  const text = ": still here\n\nid: 7\ndata: {\"a\":1}\n\nid: 8\r\ndata: one\r\ndata:two\r\n\r\n: x\ndata: same id\n\nid: 9\ndata: not whole";
  const wanted = [
    { id: "7", data: '{"a":1}' },
    { id: "8", data: "one\ntwo" },
    { id: "8", data: "same id" },
  ];
  for (const length of [1, 2, 3, 5, 8, 1000]) {
    const reader = new EventReader();
    const pieces = text.match(new RegExp(`[^]{1,${length}}`, "g")) ?? [];
    assert.deepEqual(pieces.flatMap((piece) => reader.push(piece)), wanted, `in pieces of ${length}`);
  }
});

test("a token's claims are read, and of what is none nothing", () => {
  const part = (/** @type {unknown} */ value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  assert.deepEqual(claims(`${part({ alg: "x" })}.${part({ role: "admin", sub: "ä" })}.s`), { role: "admin", sub: "ä" });
  for (const token of ["", "a", "a.b", "a.!.c", `a.${part(null)}.c`, `a.${part("x")}.c`]) assert.deepEqual(claims(token), {});
});

test("an axis ends at a round number at or above the highest value", () => {
  for (const value of [0, 0.4, 1, 7, 10, 99, 1234, 50_001, 9_999_999]) {
    const { top, step } = scale(value);
    assert.ok(top >= value && top / step <= 5 && Number.isInteger(Math.round(top / step)), `${value}: ${top} by ${step}`);
  }
  assert.deepEqual(scale(0), { top: 1, step: 1 });
});

test("a series forgets what is too old, and what is not known is a gap", () => {
  const series = new Series(100);
  for (const [value, at] of /** @type {[number | undefined, number][]} */ ([[1, 0], [2, 50], [undefined, 100], [4, 160], [5, 200]])) series.add(value, at);
  assert.deepEqual(series.samples.map(({ at }) => at), [50, 100, 160, 200]);
  assert.deepEqual(runs(series.samples), [[{ at: 50, value: 2 }], [{ at: 160, value: 4 }, { at: 200, value: 5 }]]);
});

test("durations and sizes have the units that people read", () => {
  assert.deepEqual([0, 59_000, 61_000, 3_600_000, 90_061_000].map(duration), ["0 s", "59 s", "1 min 1 s", "1 h", "1 d 1 h"]);
  assert.deepEqual([5, 1500, 2_000_000].map(size), ["5 B", "1.5 kB", "2 MB"]);
});
