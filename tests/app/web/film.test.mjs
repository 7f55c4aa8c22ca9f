// What a visitor has seen being painted.
import assert from "node:assert/strict";
import { test } from "node:test";

import { Film } from "../../../rissole/app/web/canvas/film.js";
import { message } from "./messages.mjs";

const steps = (reel) => reel.map(({ step }) => step);

test("a run keeps its messages in order, the last of them once", () => {
  const film = new Film();
  for (const step of [1, 2]) film.record(message({ step }));
  for (let n = 0; n < 2; n += 1) film.record(message({ step: 3, state: "done", link: "p=1", frame: "last" }));
  assert.deepEqual(steps(film.reel("a")), [1, 2, 3]);
  assert.equal(film.final("a"), "last");
  assert.deepEqual([film.reel("b"), film.final("b"), film.final(null)], [[], null, null]);
});

test("a long run is cut, but not its end", () => {
  const film = new Film(8, 3);
  for (let step = 1; step <= 5; step += 1) film.record(message({ step }));
  film.record(message({ step: 6, state: "done" }));
  assert.deepEqual(steps(film.reel("a")), [1, 2, 3, 6]);
});

test("the oldest runs are forgotten", () => {
  const film = new Film(2);
  for (const run of ["a", "b", "c"]) film.record(message({ run, state: "done", link: "p" }));
  assert.deepEqual(["a", "b", "c"].map((run) => film.reel(run).length), [0, 1, 1]);
});

test("moments of a block are spread over the steps that painted it", () => {
  const film = new Film();
  for (let step = 0; step < 20; step += 1) film.record(message({ step, active: step < 10 ? "1000" : "0100" }));
  assert.deepEqual(film.moments("a", 0, 4), [0, 3, 6, 9]);
  assert.deepEqual(film.moments("a", 1, 2), [10, 19]);
  assert.deepEqual(film.moments("a", 0, 20), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
  assert.deepEqual(film.moments("a", 3, 4), []);
});
