// What each event makes of the page's state.
import assert from "node:assert/strict";
import { test } from "node:test";

import { E } from "../../../rissole/app/web/shared/events.js";
import {
  canRepaint, canUndo, chosen, focus, initial, isFrame, isLive, isSettled, keepsSeed, reduce, side, targets,
  wishOf,
} from "../../../rissole/app/web/shared/state.js";
import { message } from "./messages.mjs";

const hit = (id, changes = {}) =>
  ({ id, score: 0.5, on: true, pin: false, twin: null, label: null, ...changes });
const found = { query: { item: 1 }, hits: [hit(3), hit(5), hit(8)], blocks: {}, source: "cats" };

/** The state after some events, each [name, detail]; none of the states before may change. */
const after = (...events) => events.reduce((state, [type, detail]) => {
  const copy = structuredClone(state);
  const next = reduce(state, { type, detail });
  assert.deepEqual(state, copy, `${type} changed the state it was given`);
  return next;
}, initial);

const ready = [E.FOUND, found];
const shown = (changes, earlier = false) => [E.MESSAGE, { value: message(changes), earlier }];
const done = shown({ state: "done", step: 2, kept: 1 });
const ids = (state) => state.neighbors.hits.map(({ id }) => id);

// ---- neighbors -----------------------------------------------------------------------------------

test("an unknown event changes nothing", () => {
  assert.equal(reduce(initial, { type: "no such event" }), initial);
});

test("neighbors are switched, but one stays on", () => {
  const state = after(ready, [E.TOGGLE, 3], [E.TOGGLE, 5]);
  assert.deepEqual(chosen(state), [8]);
  const last = reduce(state, { type: E.TOGGLE, detail: 8 });
  assert.deepEqual(chosen(last), [8]);
  assert.equal(last.notice.name, "keep");
  assert.deepEqual(chosen(reduce(last, { type: E.TOGGLE, detail: 3 })), [3, 8]);
});

test("neighbors are added, moved and removed", () => {
  const state = after(ready, [E.ADD, 9], [E.MOVE, { id: 9, to: 1 }], [E.REMOVE, 5]);
  assert.deepEqual(ids(state), [3, 9, 8]);
  assert.deepEqual(state.neighbors.hits[1], hit(9, { score: null, pin: true }));
  assert.equal(after(ready, [E.ADD, 3]).notice.name, "already");
  assert.equal(after([E.SETUP, { most: 3 }], ready, [E.ADD, 9]).notice.name, "full");
  assert.deepEqual(ids(after(ready, [E.MOVE, { id: 3, to: -1 }])), [3, 5, 8]);
});

test("what is added has the class that the gallery knows", () => {
  const memory = { source: "cats", classes: ["calm", "wild"] };
  const state = after([E.MEMORY, memory], [E.CLASSES, Int16Array.of(0, 1, -1)], ready, [E.ADD, 1], [E.ADD, 2]);
  assert.deepEqual(state.neighbors.hits.slice(3).map(({ label }) => label), ["wild", null]);
  assert.equal(reduce(state, { type: E.MEMORY, detail: { ...memory, source: "dogs" } }).classes, null);
});

test("the last neighbor that is on cannot be removed", () => {
  const state = after(ready, [E.TOGGLE, 3], [E.TOGGLE, 5], [E.REMOVE, 8]);
  assert.deepEqual([ids(state), state.notice.name], [[3, 5, 8], "keep"]);
});

test("a block has neighbors of its own, each given once and taken back", () => {
  const give = (id) => [E.ASSIGN, { id, row: 0, col: 1 }];
  assert.deepEqual(after(ready, give(3), give(8)).neighbors.blocks, { "0,1": [3, 8] });
  assert.deepEqual(after(ready, give(3), give(8), give(3)).neighbors.blocks, { "0,1": [8] });
  assert.deepEqual(after(ready, give(3), give(3)).neighbors.blocks, {});
  const two = [ready, give(3), [E.ASSIGN, { id: 5, row: 1, col: 1 }]];
  assert.deepEqual(after(...two, [E.CLEAR, "0,1"]).neighbors.blocks, { "1,1": [5] });
  assert.deepEqual(after(...two, [E.CLEAR, null]).neighbors.blocks, {});
});

test("a neighbor is in hand until it is taken again, let go, or gone", () => {
  assert.equal(after(ready, [E.HOLD, 3]).held, 3);
  for (const event of [[E.HOLD, 3], [E.RELEASE], [E.ESCAPE], [E.REMOVE, 3], [E.FOUND, { ...found, hits: [hit(5)] }]]) {
    assert.equal(after(ready, [E.HOLD, 3], event).held, null, event[0]);
  }
});

test("an upload is read until it is found or refused", () => {
  assert.equal(after(ready, [E.READING, "query"]).reading, "query");
  assert.equal(after(ready, [E.READING, "neighbor"]).notice.name, "reading");
  for (const event of [ready, [E.UNREAD]]) {
    const state = after(ready, [E.READING, "neighbor"], event);
    assert.deepEqual([state.reading, state.notice.name], [null, "hint"]);
  }
});

// ---- painting ------------------------------------------------------------------------------------

test("a picture is painted from start to end", () => {
  const waits = after(ready, [E.FOCUS, [1, 1]], [E.START]);
  assert.deepEqual([waits.phase, waits.pinned, waits.message], ["starting", null, null]);
  assert.ok(isLive(waits));
  const state = after(ready, [E.START], shown(), done);
  assert.deepEqual([state.phase, state.finished, side(state)], ["done", state.message, 2]);
  assert.ok(canRepaint(state) && !canUndo(state) && !isLive(state));
});

test("who waits knows how many are before them, until it begins", () => {
  const waiting = (ahead) => [E.MESSAGE, { value: { state: "waiting", ahead, seconds: 5 } }];
  const line = (...places) => after([E.START], ...places.map(waiting)).line?.ahead;
  assert.deepEqual([line(3), line(3, 1), line(null), line()], [3, 1, null, undefined]);
  assert.equal(after([E.START], waiting(3)).phase, "starting");
  assert.equal(after(waiting(3)), initial);
});

test("late frames of a stopped run are dropped, also once another is painted", () => {
  const stopped = after(ready, [E.START], shown(), [E.STOP]);
  assert.deepEqual([stopped.phase, stopped.deadRun], ["stopped", "a"]);
  assert.equal(reduce(stopped, { type: E.MESSAGE, detail: { value: message({ step: 2 }) } }), stopped);
  const again = reduce(stopped, { type: E.START });
  assert.ok(!isFrame(again, message()) && isFrame(again, message({ run: "b" })));
  assert.equal(reduce(again, { type: E.MESSAGE, detail: { value: message() } }), again);
});

test("a repaint that is stopped before its first step leaves the picture as it was", () => {
  const state = after(ready, [E.START], done, [E.REPAINTING, [0, 1]], [E.STOP]);
  assert.deepEqual([state.phase, state.deadRun, state.message.state], ["done", null, "done"]);
  assert.equal(after(ready, [E.START], [E.STOP]).phase, "stopped");
});

test("what fails says why, or nothing when nothing runs", () => {
  const state = after(ready, [E.START], [E.MESSAGE, { value: { state: "error", error: "no" } }]);
  assert.deepEqual([state.phase, state.message.error], ["error", "no"]);
  assert.deepEqual(after([E.START], [E.FAILED]).phase, "error");
  assert.deepEqual(after(ready, [E.START], done, [E.FAILED]).phase, "done");
});

test("another database clears the canvas, but not while something is painted", () => {
  const idle = [E.MESSAGE, { value: { state: "idle", mark: "x" } }];
  const state = after(ready, [E.START], done, [E.VIEW, "won"], idle);
  assert.deepEqual([state.phase, state.message, state.finished, state.view], ["idle", null, null, "picture"]);
  assert.equal(after(ready, [E.START], shown(), idle).phase, "running");
});

test("going back takes messages again, and needs somewhere to go", () => {
  const stopped = after(ready, [E.START], done, [E.START], shown({ run: "b" }), [E.STOP]);
  assert.ok(canUndo(stopped));
  const back = [[E.RETURNING], shown({ state: "done", back: "x", kept: 2 })];
  const state = back.reduce((s, [type, detail]) => reduce(s, { type, detail }), stopped);
  assert.deepEqual([state.phase, state.message.back], ["done", "x"]);
  assert.ok(canUndo(state));
});

// ---- the picture follows ---------------------------------------------------------------------------

const sketch = (wish, changes = {}) => shown({ state: "done", kind: "sketch", wish, ...changes });
const following = [ready, [E.LIVE, true], [E.START], done, [E.WISH]]; // a picture, then a wish: the second

test("only the newest wish is shown, and nothing while something is painted", () => {
  const state = after(...following, sketch(2, { run: "b" }));
  assert.deepEqual([state.phase, state.message.run, state.finished.run], ["done", "b", "a"]);
  assert.equal(after(...following, [E.WISH], sketch(2, { run: "b" })).message.run, "a");
  assert.deepEqual([after(...following).sketching, state.sketching], [true, false]);
  assert.equal(after(...following, [E.START], sketch(2, { run: "b" })).message, null);
  assert.equal(after(...following, [E.WISH], shown({ state: "error", wish: 2, error: "late" })).phase, "done");
  assert.equal(after(...following, shown({ state: "error", wish: 2, error: "no" })).phase, "error");
});

test("a sketch comes after Stop, and frames of the stopped run do not", () => {
  const state = after(ready, [E.START], shown(), [E.STOP], [E.WISH], sketch(2, { run: "b" }), shown({ step: 2 }));
  assert.deepEqual([state.phase, state.message.run], ["done", "b"]);
});

test("a sketch cannot be repainted, and undo leads to the picture before", () => {
  const state = after(...following, sketch(2));
  assert.ok(!isSettled(state) && !canRepaint(state) && canUndo(state));
  assert.ok(!canUndo(after(ready, [E.LIVE, true], [E.WISH], sketch(1))));
});

test("the seed stays while pictures are compared", () => {
  const other = [E.FOUND, { ...found, hits: [hit(4)] }];
  const same = (...events) => keepsSeed(after([E.FOUND, { ...found, hits: [hit(3), hit(5)] }], ...events));
  assert.ok(!same([E.LIVE, true], [E.START], done));
  assert.ok(same([E.LIVE, true], [E.START], done, [E.WISH], sketch(2)));
  assert.ok(same([E.LIVE, true], [E.START], done, other));
  assert.ok(!same([E.START], done, other));
  assert.ok(!same([E.LIVE, true], other));
  assert.equal(after(...following, sketch(2), [E.START]).sameSeed, true);
});

test("a wish is all that determines a picture", () => {
  const own = [[E.ASSIGN, { id: 3, row: 0, col: 1 }], [E.ASSIGN, { id: 5, row: 2, col: 1 }]];
  const settings = [E.SETTINGS, { seed: "7", order: "sequential" }];
  const state = after(ready, [E.TOGGLE, 3], ...own, [E.GRID, 2], settings, [E.WISH]);
  assert.deepEqual(wishOf(state, true), {
    number: 1, sketch: true, neighbors: [5, 8], blocks: { "0,1": [3] }, grid: 2,
    order: "sequential", steps: 20, guidance: 1, strength: 1, seed: "7",
  });
  const strong = after([E.SETTINGS, { strength: 1.5 }]);
  assert.equal(wishOf(strong, true).strength, 1); // nobody has neighbors of their own
  assert.equal(wishOf(reduce(strong, { type: E.ASSIGN, detail: { id: 3, row: 0, col: 1 } }), true).strength, 1.5);
});

// ---- looking at it -------------------------------------------------------------------------------

test("the focus is what was chosen, else what is painted, else the middle", () => {
  assert.deepEqual(focus(initial), [1, 1]);
  assert.deepEqual(focus(after([E.GRID, 2])), [0, 0]);
  assert.deepEqual(focus(after(shown({ position: [1, 0] }))), [1, 0]);
  assert.deepEqual(focus(after(shown({ repaint: [[0, 1]], position: null, state: "done" }))), [0, 1]);
  assert.deepEqual(focus(after([E.FOCUS, [3, 3]], shown())), [1, 1]); // in the picture's own grid
});

test("blocks are picked one by one, by an area, and forgotten", () => {
  const picture = [shown({ state: "done", grid: 4 })];
  const picks = (...events) => [...after(...picture, ...events).picked].sort((a, b) => a - b);
  assert.deepEqual(picks([E.PICK, 5]), [5]);
  assert.deepEqual(picks([E.CHOOSE, [0, 1]], [E.PICK, 5]), [1, 5]);
  assert.deepEqual(picks([E.PICK, 5], [E.PICK, 6], [E.PICK, 5]), [6]);
  assert.deepEqual(picks([E.AREA, { from: [2, 1], to: [1, 2] }]), [5, 6, 9, 10]);
  for (const event of [[E.CHOOSE, [0, 0]], shown({ state: "done", grid: 2 })]) {
    assert.deepEqual(picks([E.PICK, 5], [E.PICK, 6], event), []);
  }
  assert.deepEqual(picks([E.SEVERAL], [E.PICK, 5], [E.SEVERAL]), []);
  const area = after(...picture, [E.AREA, { from: [0, 0], to: [0, 1] }]);
  assert.deepEqual([targets(area), focus(area)], [[[0, 0], [0, 1]], [0, 1]]);
});

test("a view lasts as long as there is something to see in it", () => {
  const view = (...events) => after(...events).view;
  assert.equal(view([E.VIEW, "won"]), "picture");
  assert.equal(view(shown(), [E.VIEW, "won"]), "won");
  assert.equal(view(shown(), [E.VIEW, "seams"]), "picture");
  assert.equal(view(done, [E.VIEW, "seams"]), "seams");
  assert.equal(view(shown({ state: "done", grid: 1 }), [E.VIEW, "seams"]), "picture");
  assert.equal(view(done, [E.VIEW, "wipe"]), "picture");
  assert.equal(view(shown({ state: "done" }, true), [E.VIEW, "wipe"]), "wipe");
  assert.equal(view(done, [E.VIEW, "won"], [E.START]), "picture");
});

test("the film goes on to its end, and a new frame ends it", () => {
  const at = (place) => after(done, [E.SCRUB, { place, last: 4 }]).scrubbed;
  assert.deepEqual([at(2), at(-1), at(4), at(9), at(null)], [2, 0, null, null, null]);
  const state = after(done, [E.SCRUB, { place: 1, last: 4 }], [E.PLAY, true], shown({ run: "b" }));
  assert.deepEqual([state.scrubbed, state.playing], [null, false]);
});

test("the grid of the next picture leaves the one on show alone", () => {
  const state = after(done, [E.FOCUS, [1, 1]], [E.GRID, 4]);
  assert.deepEqual([side(state), state.grid, state.pinned], [2, 4, [1, 1]]);
  assert.deepEqual(after([E.FOCUS, [1, 1]], [E.GRID, 2]).pinned, null);
  assert.equal(after([E.GRID, "9"]).grid, 4);
});

test("several blocks begin with none, a tap with Shift adds to the one before", () => {
  assert.deepEqual([...after(done, [E.CHOOSE, [0, 0]], [E.SEVERAL], [E.PICK, 3]).picked], [3]);
  assert.deepEqual([...after(done, [E.CHOOSE, [0, 0]], [E.PICK, 3]).picked], [0, 3]);
});

test("a new picture begins with empty hands", () => {
  for (const begins of [[E.START], [E.REPAINTING, [0, 0]]]) {
    assert.equal(after(ready, done, [E.HOLD, 3], begins).held, null);
  }
  assert.equal(after(ready, done, [E.SEVERAL], [E.START]).several, false);
});

test("what cannot be painted leaves the finished picture there", () => {
  const refused = { state: "error", error: "seed must be from 0" };
  const state = after(ready, done, [E.START], [E.MESSAGE, { value: refused }]);
  assert.deepEqual([state.phase, state.message.run, state.message.error], ["error", "a", refused.error]);
  assert.equal(canUndo(state), true);
  assert.equal(after(ready, [E.START], [E.MESSAGE, { value: refused }]).message.run, undefined);
});

test("any seed is no seed of a sketch", () => {
  const state = after([E.SETTINGS, { seed: "7" }], [E.SETTINGS, { seed: "-1" }], [E.SETTINGS, { seed: "" }]);
  assert.equal(state.settings.seed, "7");
  assert.equal(after([E.SETTINGS, { seed: "7" }], [E.SETTINGS, { steps: 3 }]).settings.seed, "7");
});
