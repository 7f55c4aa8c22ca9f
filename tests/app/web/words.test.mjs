// What the canvas says, in the page's own texts.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import {
  cellName, cost, explained, looks, outdated, progress, withoutFilm, words,
} from "../../../rissole/app/web/canvas/words.js";
import { placed, thickness } from "../../../rissole/app/web/canvas/lens.js";
import { E } from "../../../rissole/app/web/shared/events.js";
import { initial, reduce } from "../../../rissole/app/web/shared/state.js";
import { arrow, fill, spread, thumb, whole } from "../../../rissole/app/web/shared/values.js";
import { bytes, message } from "./messages.mjs";

const file = new URL("../../../rissole/app/web/texts.json", import.meta.url);
const all = JSON.parse(readFileSync(file, "utf8"));
const texts = all.canvas;
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

const hit = (id) => ({ id, score: 0.5, on: true, pin: false, twin: null, label: id === 5 ? "calm" : null });
const found = { query: { item: 1 }, hits: [hit(3), hit(5)], blocks: {}, source: "cats" };
const heard = bytes(75, 50, 100, 0, 25, 50, 0, 100); // of two neighbors in four blocks
const painted = (changes) => reduce(reduce(initial, { type: E.FOUND, detail: found }),
  { type: E.MESSAGE, detail: { value: message({ state: "done", step: 2, attention: heard, ...changes }) } });

test("a block is explained in a sentence, a share beside an even one", () => {
  const say = (state, place) => explained(state, state.message, place, texts);
  assert.equal(say(painted({}), [0, 0]),
    "Mostly picture 3: 75 %, 1.5 times an even share of 50 %. Then picture 5 (calm): 25 %.");
  assert.match(say(painted({}), [0, 1]), /^No favorite: picture 3 has the most, 50 %/);
  assert.match(say(painted({}), [1, 1]), /alone/);
  assert.equal(say(painted({ attention: bytes(0, 0, 0, 0, 0, 0, 0, 0) }), [0, 0]), texts.nobody);
  assert.match(cost({ ...painted({ attention: bytes(0, 0, 0, 0, 0, 0, 0, 0) }), view: "won" },
    message({ attention: bytes(0) }), null, texts), /guidance of 0/);
  const twice = painted({ attention: bytes(50, 0, 0, 0, 25, 0, 0, 0, 25, 0, 0, 0), ids: [3, 5, 8] });
  assert.match(say(twice, [0, 0]), /1\.5 times an even share of 33\.3 %/);
  assert.match(cellName(painted({}), painted({}).message, 0, texts), /done\. Mostly picture 3: 75 %/);
});

test("blocks that would listen to others now are known, whoever changed what", () => {
  const state = painted({ attention: bytes(9, 9, 9, 9, 9, 9, 9, 9) });
  const then = (...events) => events.reduce((s, [type, detail]) => reduce(s, { type, detail }), state);
  assert.equal(outdated(state).size, 0);
  assert.deepEqual([...outdated(then([E.ASSIGN, { id: 3, row: 1, col: 0 }]))], [2]);
  assert.equal(outdated(then([E.ASSIGN, { id: 3, row: 1, col: 0 }], [E.CLEAR, null])).size, 0);
  const off = then([E.TOGGLE, 5]);
  assert.equal(outdated(off).size, 4);
  assert.equal(cost(off, off.message, null, texts), texts.older);
  const given = then([E.ASSIGN, { id: 3, row: 0, col: 0 }]);
  assert.match(cost(given, given.message, null, texts), /^1 block was painted from other/);
  // a block that was painted with a neighbor of its own is not out of date while it has it
  const own = painted({ attention: bytes(9, 0, 9, 9, 0, 9, 9, 9), own: { "0,0": [3], "0,1": [5] } });
  const still = [[E.ASSIGN, { id: 3, row: 0, col: 0 }], [E.ASSIGN, { id: 5, row: 0, col: 1 }]];
  assert.equal(outdated(own).size, 2);
  assert.equal(outdated(still.reduce((s, [type, detail]) => reduce(s, { type, detail }), own)).size, 0);
});

test("no text says 1 pictures", () => {
  const every = (value) => (typeof value === "string" ? [value] : Object.values(value).flatMap(every));
  const one = every(all).map((text) => fill(text, new Proxy({}, { has: () => true, get: () => 1 })));
  const plural = /\b1 (network )?(calls|pictures|blocks|photos|files|neighbors|steps|values)\b/i;
  assert.deepEqual(one.filter((text) => plural.test(text)), []);
  assert.equal(fill("{n:picture|pictures}", { n: "1,024" }), "pictures");
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

test("the lens lies beside the picture, or over the half that the block is not in", () => {
  const picture = { x: 100, y: 100, width: 400, height: 400 };
  const cell = { x: 100, y: 400, width: 100, height: 100 };
  const size = { width: 260, height: 200 };
  assert.equal(placed(picture, cell, size, { width: 1400, height: 900 }).x, 516);
  assert.equal(placed({ ...picture, x: 400 }, cell, size, { width: 820, height: 900 }).x, 124);
  const phone = placed({ ...picture, x: 0 }, cell, size, { width: 400, height: 844 });
  assert.ok(phone.y + size.height <= cell.y && phone.y >= 0);
  assert.ok(placed({ ...picture, x: 0 }, { ...cell, y: 100 }, size, { width: 400, height: 844 }).y >= 200);
  assert.equal(thickness(0.5), 2 * thickness(0.25));
});

test("where there is no film, it is said how to see one", () => {
  const film = { reel: () => [] };
  const strip = (changes) => withoutFilm(message(changes), [0, 0], film, texts);
  assert.equal(strip({ state: "done" }), texts.stripNone);
  assert.equal(strip({ state: "done", kind: "sketch" }), texts.stripSketch);
  assert.equal(strip({ state: "running" }), "");
});
