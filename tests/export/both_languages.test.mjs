// JavaScript against what Python wrote into tests/golden/both_languages.json.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { layOut } from "../../rissole/export/web/blocks.js";
import { beneath, merged } from "../../rissole/export/web/frames.js";
import { callsOf, dpmSolver, euler, levelsOf } from "../../rissole/export/web/levels.js";
import { decode, encode } from "../../rissole/export/web/links.js";
import { normal } from "../../rissole/export/web/noise.js";
import { paint } from "../../rissole/export/web/painting.js";
import { fromJson, toJson } from "../../rissole/export/web/recipe.js";

const golden = JSON.parse(readFileSync(new URL("../golden/both_languages.json", import.meta.url), "utf-8"));
const same = (json) => JSON.stringify(JSON.parse(json.replace(/("seed"\s*:\s*)(\d+)/g, '$1"$2"')));

const near = (found, known) => {
  assert.equal(found.length, known.length);
  found.forEach((value, at) => assert.ok(Math.abs(value - known[at]) < 2e-5, `${value} is not ${known[at]}`));
};

test("links and recipes are Python's, both ways", () => {
  for (const { link, item, json } of golden.recipes) {
    const { recipe, item: query } = decode(link);
    assert.equal(query, item);
    assert.equal(same(toJson(recipe)), same(json));
    assert.equal(encode(recipe, item), link);
    assert.equal(encode(fromJson(json), item), link);
  }
});

test("what a link leaves out is as in the bundle", () => {
  for (const { link, json } of golden.plain) {
    const read = () => toJson(decode(link, { grid: 4, guidance_scale: 3 }).recipe);
    if (json === null) assert.throws(read);
    else assert.equal(same(read()), same(json));
  }
});

test("both refuse the same links", () => {
  for (const link of golden.refused) assert.throws(() => decode(link), link);
});

test("levels and calls are Python's", () => {
  for (const { steps, flowMap, levels, calls } of golden.levels) {
    near([...levelsOf(steps, flowMap)].slice(0, -1), levels);
    assert.equal(callsOf(steps, 1.6, flowMap), calls);
  }
});

test("solvers step as those of diffusers", () => {
  for (const { steps, flowMap, sample: known } of golden.solver) {
    const advance = (flowMap ? euler : dpmSolver)(levelsOf(steps, flowMap));
    let sample = normal(0n, 8);
    for (let step = 1; step <= steps; step++) sample = advance(normal(BigInt(step), 8), sample).next;
    near([...sample], known);
  }
});

test("windows are laid as Python lays them", () => {
  for (const { shape, group, blend, alone } of golden.blocks) {
    const { grid, size, halo, channels } = shape;
    const side = grid === 1 ? size : size / grid + 2 * halo;
    const windows = normal(BigInt(grid), group.length * channels * side * side);
    near([...layOut(windows, group, shape)], blend);
    near([...layOut(windows, group, { ...shape, alone: true })], alone);
  }
});

const SHAPE = { channels: 2, size: 16, halo: 2, listeners: 1, strength: false };

/** The network that answers with all that it is given, `Echo` in both_languages.py. */
const echo = (flowMap, grid) => async (name, { sample, level, levels = level, present, context, visible, ends,
  guidance, index }) => {
  const { channels, size, halo } = SHAPE, blind = name === "blind";
  const side = blind ? 1 : grid, rim = side === 1 ? 0 : halo, w = size / side + 2 * rim, half = w / 2;
  const group = blind ? [0] : [...index.data].map(Number), k = blind ? 1 : visible.dims[3];
  const told = (at) => {
    if (blind) return levels.data[0] + 0.1;
    const seen = visible.data.subarray(at * k, (at + 1) * k).reduce((sum, sees, n) => sum + sees * (n + 1), 0);
    const asked = flowMap ? 0.01 * guidance.data[0] - 0.5 * ends.data[at] : 0;
    return levels.data[at] + 0.1 * present.data[at] + 0.2 * context.data[0] + 0.03 * seen + asked;
  };
  const windows = new Float32Array(group.length * channels * w * w).map((_, at) => {
    const x = at % w, y = Math.floor(at / w) % w, c = Math.floor(at / (w * w)) % channels;
    const block = group[Math.floor(at / (w * w * channels))];
    const [row, col] = [Math.floor(block / side) * (size / side) + y - rim, (block % side) * (size / side) + x - rim];
    const inside = row >= 0 && row < size && col >= 0 && col < size;
    return 0.3 * (inside ? sample.data[(c * size + row) * size + col] : 0) + told(block);
  });
  if (blind) return { answer: windows };
  const share = new Float32Array(group.length * k * half * half).map((_, at) => {
    const block = group[Math.floor(at / (half * half * k))];
    return visible.data[block * k + (Math.floor(at / (half * half)) % k)] / k;
  });
  return { windows, share };
};

test("the loop asks the network as Python does, and ends with the same", async () => {
  const some = (values) => [...values].filter((_, at) => at % 5 === 0);
  for (const { flowMap, grid, calls, estimate, attention, ...settings } of golden.painted) {
    const visible = Uint8Array.from({ length: grid * grid * 2 }, (_, at) => Number(at % 2 === 0 || at >= grid * 2));
    const plan = { ...settings, grid, visible, shape: { ...SHAPE, flow_map: flowMap }, features: {}, count: 2,
      noise: normal(1n, 512), init: settings.blocks.length ? normal(2n, 512) : null };
    let last;
    for await (const step of paint(echo(flowMap, grid), plan)) last = step;
    assert.equal(last.calls, calls);
    near(some(last.estimate), estimate);
    near(some(last.attention), attention);
    assert.ok(last.done.every(Boolean));
  }
});

test("a repaint joins the shares of the picture beneath", () => {
  const before = normal(1n, 48).map(Math.abs);
  for (let at = 32; at < 48; at++) if (at % 4 >= 2) before[at] = 0;
  const after = normal(2n, 32).map(Math.abs);
  const { ids, attention } = merged({ ids: [5, 8, 2], attention: before }, [8, 9], after, [[0, 1], [1, 0]], 2);
  assert.deepEqual(ids, golden.merged.ids);
  near([...attention], golden.merged.shares);
});

test("the same blocks again are painted on the picture before", () => {
  const { recipe } = decode(golden.recipes[3].link);
  for (const { blocks, itself } of golden.beneath) assert.equal(beneath(recipe, blocks) === recipe, itself);
});

test("blocks are led on toward neighbors of their own, away from the picture's", async () => {
  const shape = { channels: 1, size: 16, halo: 0, listeners: 0, flow_map: true, strength: false };
  // a network whose answer for a block is the number of the neighbors that it sees, from 1 up
  const run = async (_, { visible, index }) => {
    const seen = [...index.data].map((at) => visible.data.subarray(2 * Number(at), 2 * Number(at) + 2));
    return { windows: Float32Array.from(seen.flatMap(([a, b]) => Array(64).fill(a + 2 * b))),
      share: new Float32Array(seen.length * 2 * 16) };
  };
  const usual = Uint8Array.from([1, 0, 1, 0, 1, 0, 1, 0]), visible = usual.slice();
  visible.set([0, 1], 2 * 3); // the last of four blocks
  const plan = { shape, noise: new Float32Array(256), features: {}, count: 2, visible, usual, scale: 1,
    steps: 1, order: "parallel", grid: 2 };
  for (const [follow, led, calls] of [[1, 2, 1], [3, 1 + 3 * (2 - 1), 2], [0.5, 1.5, 2]]) {
    const { value: step } = await paint(run, { ...plan, follow }).next();
    assert.equal(step.calls, calls);
    assert.deepEqual([-step.estimate[0], -step.estimate[255]], [1, led]); // a whole step from 1 to 0
  }
});
