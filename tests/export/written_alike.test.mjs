// JavaScript against what Python wrote into tests/golden/written_alike.json.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { axisOf } from "../../rissole/export/web/comparing.js";
import { decode } from "../../rissole/export/web/links.js";
import { normal } from "../../rissole/export/web/noise.js";
import { asPython, fileOfRun, perBlock } from "../../rissole/export/web/runs.js";
import { correlation } from "../../rissole/export/web/search.js";
import { nearnessOf } from "../../rissole/export/web/training_photos.js";
import { namedClasses } from "../../rissole/export/web/words.js";

const golden = JSON.parse(readFileSync(new URL("../golden/written_alike.json", import.meta.url), "utf-8"));

test("words name the classes that they name in Python", () => {
  for (const [text, named] of Object.entries(golden.named)) {
    assert.deepEqual(namedClasses(text, golden.classes), named, text);
  }
});

test("a program that paints a recipe is Python's", () => {
  for (const { link, python } of golden.programs) assert.equal(asPython(decode(link).recipe, "cats-128"), python);
});

test("latents are as alike as in Python", () => {
  golden.correlations.forEach((known, seed) => {
    const one = normal(BigInt(seed), 256), other = normal(BigInt(seed + 100), 256);
    const found = correlation(one, one.map((value, at) => seed * value + other[at]), 4);
    assert.ok(Math.abs(found - known) < 2e-5, `${found} is not ${known}`);
  });
});

test("photos of the training are as near as in Python", () => {
  for (const { numbers, shape, latent, of, distance, nearer } of golden.nearness) {
    const found = nearnessOf(Float32Array.from(numbers), shape, Float32Array.from(latent), of);
    assert.ok(Math.abs(found.distance - distance) < 2e-4, `${found.distance} is not ${distance}`);
    assert.equal(found.nearer, nearer);
  }
});

const step = { position: null, index: 1, blocks: 1, step: 1, steps: 1, calls: 3, neighbors: [5, 2],
  estimate: new Float32Array(4 * 16).fill(0.5), attention: Float32Array.from([1, 1, 0, 0, 0, 0, 0, 3]) };
const { recipe } = decode("p=n5.2~g2~s1");

test("shares of a block add up, and those of a block that heard nobody are none", () => {
  assert.deepEqual(perBlock(step.attention, 2, 2), [[1, 0], [1, 0], [0, 0], [0, 1]]);
});

test("a run as a table has a line for each block and neighbor", async () => {
  const lines = (await fileOfRun("csv", recipe, [step], [0.25, null]).text()).split("\n");
  assert.equal(lines[0], "row,column,neighbor,share,similarity");
  assert.deepEqual(lines.slice(1, 3), ["1,1,5,1.000000,0.250000", "1,1,2,0.000000,"]);
  assert.equal(lines.length, 10);
});

test("a run as JSON has the arrays of Python's", async () => {
  const text = await fileOfRun("json", recipe, [step], [0.25, null]).text();
  const { scores, latents, attention, positions } = JSON.parse(text);
  assert.deepEqual(scores, [0.25, -2]);
  assert.deepEqual(positions, [[-1, -1]]);
  assert.deepEqual([latents.length, latents[0].length, latents[0][0].length, latents[0][0][0].length], [1, 4, 4, 4]);
  assert.deepEqual(attention, [[[[1, 1], [0, 0]], [[0, 0], [0, 3]]]]);
});

test("axes of a comparison are read as in Python", () => {
  for (const { given, values, refused } of golden.axes) {
    if (refused) assert.throws(() => axisOf(given), { message: refused });
    else assert.deepEqual(axisOf(given).values.map(String), values);
  }
});
