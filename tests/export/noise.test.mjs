// The numbers of a seed are those of Python: one file of golden values serves both.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { choice, normal, words } from "../../rissole/export/web/noise.js";

const golden = JSON.parse(readFileSync(new URL("../golden/noise.json", import.meta.url), "utf-8"));

test("words are those of the paper", () => {
  for (const { seed, counter, stream, words: known } of golden.words) {
    assert.deepEqual(words(BigInt(seed), BigInt(counter), BigInt(stream)), known);
  }
});

test("numbers of a seed are Python's, to the last bit", () => {
  for (const { seed, start, numbers } of golden.normal) {
    assert.deepEqual([...normal(BigInt(seed), numbers.length, start)], numbers);
  }
});

test("choices are Python's", () => {
  for (const { seed, count, chosen } of golden.choice) assert.equal(choice(BigInt(seed), count), chosen);
});
