// Networks take turns: what is asked for meanwhile waits, is answered, and never waits for itself; a runtime
// that failed is not asked again. The runtime's script is a stand-in that says what it holds, since the
// real one needs a browser.

import assert from "node:assert/strict";
import { mkdtemp, mkdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { pathToFileURL } from "node:url";

import { Networks } from "../../rissole/export/web/networks.js";
import { runtimeHere } from "../../rissole/export/web/runtime.js";

const RUNTIME = `
export const env = { wasm: {} }, held = new Set();
export class Tensor {
  constructor(kind, data, dims) { Object.assign(this, { data, dims }); }
  async getData() { return this.data; }
}
const pause = () => new Promise((done) => { setTimeout(done); });
export const InferenceSession = { create: async (graph) => {
  const name = new TextDecoder().decode(graph), threads = new URL(import.meta.url).search.slice(1);
  await pause();
  held.add(name);
  return {
    inputNames: ["x"],
    run: async ({ x }) => {
      await pause();
      if (!held.has(name)) throw new Error("it was given up meanwhile");
      if (name === "large" && x.data[0] > 16) throw new Error("std::bad_alloc");
      if (name === "broken" || (name === "heavy" && threads === "2")) throw new Error("no " + name);
      return { y: x };
    },
    release: () => {
      held.delete(name);
      return threads === "2" ? new Promise(() => {}) : pause(); // those of a lost device never answer
    },
  };
} };`;
const GRAPHS = ["step1", "step2", "step4", "decoder", "broken", "heavy", "large"];
const [ONE, TWO] = [1, 2].map((threads) => ({ kind: "wasm", threads }));

let base = "";
before(async () => {
  const folder = await mkdtemp(join(tmpdir(), "rissole-"));
  await mkdir(join(folder, "runtime"));
  await writeFile(join(folder, "runtime", "ort.wasm.min.mjs"), RUNTIME);
  base = `${pathToFileURL(folder)}/`;
});
after(() => rm(new URL(base), { recursive: true }));

const started = async (adapter, open = runtimeHere) => {
  const graphs = GRAPHS.map((name) => [`model/${name}.onnx`, new Blob([name])]);
  const program = ["runtime/ort-wasm-simd-threaded.wasm", new Blob([])];
  const networks = new Networks(base, {}, new Map([...graphs, program]), open);
  await networks.use(adapter);
  return networks;
};
const asked = (networks, name, value) =>
  networks.run(name, { x: { data: Float32Array.of(value), dims: [1] } }).then(({ y }) => y[0]);

test("grids that are asked for at once are painted one after another, and the last one is kept", async () => {
  const networks = await started(ONE);
  const made = networks.prepare(["step4", "decoder"]);
  const found = await Promise.all([asked(networks, "step1", 1), asked(networks, "step2", 2),
    asked(networks, "step1", 3), asked(networks, "decoder", 4), networks.prepare(["step2"]), made]);
  assert.deepEqual(found.slice(0, 4), [1, 2, 3, 4]);
  assert.deepEqual([...networks.runtime.sessions.keys()].sort(), ["decoder", "step2"]);
  assert.deepEqual([...networks.runtime.ort.held].sort(), ["decoder", "step2"]);
});

test("what fails is told, and does not hold up what comes after it", async () => {
  const networks = await started(ONE);
  const [failed, next] = await Promise.allSettled([asked(networks, "broken", 1), asked(networks, "decoder", 2)]);
  assert.match(failed.reason.message, /no broken/);
  assert.equal(next.value, 2);
});

test("threads that give out leave the work to one, though their sessions are never released", async () => {
  const networks = await started(TWO);
  assert.equal(await asked(networks, "decoder", 1), 1);
  const found = await Promise.all([asked(networks, "heavy", 2), asked(networks, "decoder", 3)]);
  assert.deepEqual(found, [2, 3]);
  assert.deepEqual(networks.adapter, ONE);
});

test("a runtime that has run out of memory is ended, and the next picture is painted by another", async () => {
  const begun = [], ended = [];
  const networks = await started(ONE, (...how) => {
    const runtime = runtimeHere(...how);
    begun.push(runtime);
    return Object.assign(runtime, { end: () => { ended.push(runtime); } });
  });
  assert.equal(await asked(networks, "large", 8), 8);
  const [failed, next] = await Promise.allSettled([asked(networks, "large", 17), asked(networks, "large", 16)]);
  assert.match(failed.reason.message, /too little memory for this picture/);
  assert.equal(next.value, 16);
  assert.equal(begun.length, 3); // one more had its chance with all of the memory
  assert.deepEqual(ended, begun.slice(0, 2));
  networks.files = {};
  await assert.rejects(networks.prepare(["nowhere"]), /could not be loaded/);
  assert.equal(ended.length, 2); // a file that does not come is no fault of the runtime
});

test("a model that does not fit says so", async () => {
  const failing = () => ({ prepare: () => Promise.reject(new Error("Aborted()")), end: () => {} });
  await assert.rejects((await started(TWO, failing)).prepare(["step4"]), /too little memory for the model/);
});
