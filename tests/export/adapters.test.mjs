// Which adapter is chosen: a graphics processor where it is faster and paints the same picture.

import assert from "node:assert/strict";
import { test } from "node:test";

import { alike, best } from "../../rissole/export/web/adapters.js";

const TWO = { kind: "wasm", threads: 2 }, ONE = { kind: "wasm", threads: 1 }, GPU = { kind: "webgpu", threads: 1 };
const ALL = [TWO, ONE, GPU];
const picture = (...pixels) => Uint8ClampedArray.from(pixels);

/** An attempt with known outcomes, by kind and threads; what is not named fails. */
const outcomes = (known, asked = []) => async (adapter, limit) => {
  asked.push([adapter, limit]);
  const found = known[`${adapter.kind}${adapter.threads}`];
  if (!found) throw new Error(`${adapter.kind} has no memory`);
  return { pixels: picture(9, 200, 31), ...found };
};

test("a graphics processor is taken where it is faster and paints the same", async () => {
  const wasm2 = { milliseconds: 900 }, rounded = picture(10, 198, 31);
  assert.equal(await best(ALL, outcomes({ wasm2, webgpu1: { milliseconds: 80, pixels: rounded } })), GPU);
  assert.equal(await best(ALL, outcomes({ wasm2, webgpu1: { milliseconds: 901 } })), TWO);
  assert.equal(await best(ALL, outcomes({ wasm2 })), TWO);
});

test("wrong pixels are never chosen, however fast", async () => {
  for (const pixels of [picture(9, 200, 34), picture(9, 200), picture(0, 0, 0)]) {
    const known = { wasm2: { milliseconds: 900 }, webgpu1: { milliseconds: 1, pixels } };
    assert.equal(await best(ALL, outcomes(known)), TWO);
  }
});

test("a graphics processor is given time by what WebAssembly took", async () => {
  const asked = [];
  await best(ALL, outcomes({ wasm2: { milliseconds: 4000 } }, asked));
  assert.deepEqual(asked, [[TWO, Infinity], [GPU, 12000]]);
});

test("fewer threads where more fail; the reason where all do", async () => {
  assert.equal(await best(ALL, outcomes({ wasm1: { milliseconds: 900 } })), ONE);
  await assert.rejects(best(ALL, outcomes({ webgpu1: { milliseconds: 1 } })), /wasm has no memory/);
});

test("pictures are alike but for rounding", () => {
  assert.ok(alike(picture(0, 255), picture(2, 253)));
  assert.ok(!alike(picture(0, 255), picture(3, 255)));
});
