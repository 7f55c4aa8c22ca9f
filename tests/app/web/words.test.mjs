// What the canvas says, in the page's own texts.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { cellName, cost, looks, progress, words } from "../../../rissole/app/web/canvas/words.js";
import { E } from "../../../rissole/app/web/shared/events.js";
import { initial, reduce } from "../../../rissole/app/web/shared/state.js";
import { arrow, fill, spread, thumb, whole } from "../../../rissole/app/web/shared/values.js";
import { message } from "./messages.mjs";

const file = new URL("../../../rissole/app/web/texts.json", import.meta.url);
const texts = JSON.parse(readFileSync(file, "utf8")).canvas;
const received = (changes, from = initial) => reduce(from, { type: E.MESSAGE, detail: { value: message(changes) } });
const said = (state, shown = state.message) => words(state, shown, texts);

test("each phase has its line", () => {
  const waiting = reduce(initial, { type: E.START });
  assert.equal(said(initial), texts.loading);
  assert.equal(said(waiting), texts.starting);
  const line = (ahead) => said(received({ state: "waiting", ahead, seconds: 9 }, waiting));
  assert.match(line(2), /2 before you, about 9 s/);
  assert.match(line(0), /You are next/);
  assert.match(line(null), /goes on by itself in about 9 s/);
  assert.equal(said({ ...waiting, away: true }), texts.away);
  assert.equal(said(reduce(waiting, { type: E.STOP })), texts.stoppedEarly);
  assert.equal(said(reduce(waiting, { type: E.FAILED })), texts.failed);
  assert.equal(said(received({})), "Block 1 of 4, step 1 of 2");
  assert.match(said(reduce(received({}), { type: E.STOP })), /^Stopped at block 1 of 4, step 1 of 2\./);
  assert.equal(said(received({ state: "done", seconds: 1.25 })), "Done in 1.3 s");
  assert.match(said(received({ state: "done", repaint: [[3, 1]], grid: 4 })), /^Row 4, column 2 repainted in/);
  assert.match(said(received({ state: "done", repaint: [[3, 1], [0, 0]], grid: 4 })), /^2 blocks repainted in/);
  assert.equal(said(received({ state: "done", back: "x" })), texts.back);
});

test("what it cost is said of the place in the film that is on show", () => {
  const done = received({ state: "done", step: 2, calls: 4 });
  assert.equal(cost(done, done.message, null, texts), "4 network calls, seed 7");
  const scrubbed = reduce(done, { type: E.SCRUB, detail: { place: 0, last: 3 } });
  assert.match(cost(scrubbed, message(), null, texts), /^2 network calls/);
  assert.doesNotMatch(cost(scrubbed, message(), null, texts), /seed/);
  assert.match(cost({ ...done, view: "seams" }, done.message, 1.234, texts), /1\.23/);
});

test("progress counts the steps of all blocks", () => {
  assert.deepEqual([received({}), received({ index: 4, step: 2 }), initial].map(progress), [1 / 8, 1, 0]);
});

test("blocks look as they are at the place in the film that is on show", () => {
  const now = message({ done: "1100", active: "0110" });
  const running = { ...received({}), message: now };
  assert.deepEqual([0, 1, 2, 3].map((at) => looks(running, now, at)), ["done", "active", "active", "waiting"]);
  const done = received({ state: "done", done: "1111", active: "0110" });
  assert.equal(looks(done, done.message, 1), "done");
  assert.equal(looks(done, null, 1), "waiting");
});

test("a block tells whose neighbors it has", () => {
  const state = reduce(received({}), { type: E.ASSIGN, detail: { id: 9, row: 1, col: 0 } });
  assert.match(cellName(state, state.message, 2, texts), /row 2, column 1.*9$/);
});

test("texts are filled by name, and only what is named", () => {
  assert.equal(fill("{a} of {b}, {c}", { a: 0, b: "<b>" }), "0 of <b>, {c}");
  assert.equal(thumb("a/b", "3"), "thumbs/a%2Fb/3.webp");
  assert.deepEqual([whole("7", 0, 4), whole("x", 1, 4), whole(2.9, 0, 4), whole(-1, 0, 4)], [4, 1, 2, 0]);
});

test("arrows stay in the grid", () => {
  const to = (key, index) => arrow(key, index, 4, 14);
  assert.deepEqual([to("ArrowRight", 3), to("ArrowLeft", 0), to("ArrowDown", 9), to("ArrowDown", 11)], [4, 0, 13, 11]);
  assert.deepEqual([to("Home", 5), to("End", 5), to("a", 5)], [0, 13, null]);
});

test("a selection is spread from the first to the last", () => {
  assert.deepEqual(spread([1, 2, 3, 4, 5], 3), [1, 3, 5]);
  assert.deepEqual(spread([1, 2], 3), [1, 2]);
});
