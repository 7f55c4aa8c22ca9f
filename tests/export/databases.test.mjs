// What neighbors are taken from in the tab: own pictures, and pictures behind those of a database.

import assert from "node:assert/strict";
import { test } from "node:test";

import { extended, own, shipped } from "../../rissole/export/web/databases.js";
import { cosine, nearest, randomItem, rowsOf, typical, usualNearness } from "../../rissole/export/web/search.js";

const unit = (...numbers) => {
  const length = Math.hypot(...numbers);
  return Float32Array.from(numbers, (one) => one / length);
};
/** A latent of one channel and 4 x 4 numbers. */
const latent = (seed) => Float32Array.from({ length: 16 }, (_, at) => Math.sin(seed * 7 + at * at));
const photo = (seed, ...numbers) => ({ vector: unit(...numbers), latents: latent(seed) });

const vectors = [unit(1, 0), unit(0.9, 0.1), unit(0, 1), unit(-1, 0)];
const index = { dim: 2, count: 4, vectors: Float32Array.from(vectors.flatMap((one) => [...one])) };
const rows = { take: async (items) => Float32Array.from(items.flatMap((item) => [...latent(item)])) };
const gallery = shipped({ key: "77c0", classes: ["rose", "daisy"] }, index, rows, Int16Array.of(0, 0, 1, -1));
const all = () => true;

test("the nearest come first, the first of two that are as near", () => {
  assert.deepEqual(nearest(gallery, unit(1, 0), 3, all).map(({ id }) => id), [0, 1, 2]);
  assert.deepEqual(nearest(gallery, unit(1, 0), 3, (id) => id !== 0).map(({ id }) => id), [1, 2, 3]);
});

test("the same photos have the same key, others another one", () => {
  const mine = () => own([photo(1, 1, 0), photo(2, 0, 1)]);
  assert.match(mine().key, /^[0-9a-f]{16}$/);
  assert.equal(mine().key, mine().key);
  assert.notEqual(mine().key, own([photo(2, 0, 1), photo(1, 1, 0)]).key);
});

test("pictures behind a database keep its numbers", async () => {
  const both = extended(gallery, own([photo(9, 0.6, 0.8)]));
  assert.equal(both.count, 5);
  assert.notEqual(both.key, gallery.key);
  assert.equal(nearest(both, unit(0.6, 0.8), 1, all)[0].id, 4);
  assert.deepEqual(await both.take([4, 1]), Float32Array.from([...latent(9), ...latent(1)]));
  assert.deepEqual([both.classOf(2), both.classOf(4)], [1, -1]);
  assert.deepEqual(await extended(both, own([photo(3, 1, 1)])).take([4, 5, 0]),
    Float32Array.from([...latent(9), ...latent(3), ...latent(0)]));
});

test("two pictures are nearly the same when vectors and latents are", async () => {
  const twins = own([photo(1, 1, 0), photo(1, 1, 0.01), photo(5, 1, 0.02)]);
  const found = await rowsOf(twins, unit(1, 0), [0, 1, 2], [2], 1);
  assert.deepEqual(found.map(({ twin }) => twin), [null, 0, null]);
  assert.deepEqual(found.map(({ pin }) => pin), [false, false, true]);
  assert.equal(found[0].score, 1);
});

test("a class has a random member and a typical vector", () => {
  const roses = (item) => gallery.classOf(item) === 0;
  for (let seed = 0n; seed < 8n; seed += 1n) assert.ok(roses(randomItem(gallery, seed, roses)));
  assert.ok(cosine(typical(gallery, roses), unit(0.95, 0.05)) > 0.999);
  assert.throws(() => typical(gallery, () => false), /no picture of this class/);
});

test("how near pictures usually are is a median over all", () => {
  const near = cosine(vectors[0], vectors[1]); // of both; the others are far from all
  const scores = [near, near, cosine(vectors[1], vectors[2]), cosine(vectors[2], vectors[3])].sort((a, b) => a - b);
  assert.ok(Math.abs(usualNearness(gallery) - (scores[1] + scores[2]) / 2) < 1e-6);
});
