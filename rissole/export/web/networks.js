// The graphs of a bundle in ONNX Runtime: on the graphics processor where that is faster, else in
// WebAssembly with as many threads as the page is lent.
import { get } from "./files.js";

/**
 * @typedef {import("./painting.js").Tensors} Tensors
 * @typedef {{kind: "webgpu" | "wasm", threads: number}} Adapter
 * @typedef {(loaded: number, all: number) => void} Progress
 */

const MOST_THREADS = 4; // more are no faster for networks as small as these
const WEIGHTS = {
  encoder: ["autoencoder.safetensors"], decoder: ["autoencoder.safetensors"], embed: ["encoder.safetensors"],
};
const SCRIPTS = { webgpu: "ort.webgpu.min.mjs", wasm: "ort.wasm.min.mjs" };

export const canThread = () => globalThis.crossOriginIsolated && typeof SharedArrayBuffer === "function";

/** What this browser could run, the most promising first. @returns {Promise<Adapter[]>} */
export const adapters = async () => {
  const gpu = await /** @type {any} */ (navigator).gpu?.requestAdapter().catch(() => null);
  const threads = canThread() ? Math.max(1, Math.min(MOST_THREADS, navigator.hardwareConcurrency ?? 1)) : 1;
  /** @type {Adapter} */
  const wasm = { kind: "wasm", threads };
  // a graphics processor that is only imitated is slower than the processor that imitates it
  return gpu && !gpu.info?.isFallbackAdapter ? [{ kind: "webgpu", threads }, wasm] : [wasm];
};

/** Reads a file and says how far it is. @param {string} address @param {(bytes: number) => void} progress */
const download = async (address, progress) => {
  const answer = await get(address);
  const reader = answer.body?.getReader();
  if (!reader) return new Uint8Array(await answer.arrayBuffer());
  const parts = [];
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    parts.push(part.value);
    progress(part.value.length);
  }
  return new Uint8Array(await new Blob(parts).arrayBuffer());
};

export class Networks {
  /** @param {string} base address of the exported folder @param {Record<string, number>} files sizes */
  constructor(base, files) {
    this.base = base;
    this.files = files;
    /** @type {any} */
    this.ort = null;
    /** @type {Adapter | null} */
    this.adapter = null;
    /** @type {Map<string, Promise<any>>} */
    this.sessions = new Map();
    /** @type {Map<string, Promise<Uint8Array>>} */
    this.weights = new Map();
  }

  /** Starts the runtime; sessions of another one are given up. @param {Adapter} adapter */
  async use(adapter) {
    await this.release([...this.sessions.keys()]);
    this.ort = await import(`${this.base}runtime/${SCRIPTS[adapter.kind]}`);
    this.ort.env.wasm.wasmPaths = `${this.base}runtime/`;
    this.ort.env.wasm.numThreads = adapter.threads;
    this.adapter = adapter;
  }

  /** Loads all weights there are, with one report of how far. @param {Progress} progress */
  async load(progress) {
    const names = Object.keys(this.files).filter((name) => /^model\/.*\.safetensors$/.test(name));
    const all = names.reduce((sum, name) => sum + this.files[name], 0);
    let loaded = 0;
    await Promise.all(names.map((name) => this.weight(name.slice(6), (bytes) => {
      loaded += bytes;
      progress(loaded, all);
    })));
  }

  /** @param {string} name @param {(bytes: number) => void} [progress] */
  weight(name, progress = () => {}) {
    const known = this.weights.get(name) ?? download(`${this.base}model/${name}`, progress);
    this.weights.set(name, known);
    return known;
  }

  /** @param {string} name of a graph */
  session(name) {
    const known = this.sessions.get(name) ?? this.create(name);
    this.sessions.set(name, known);
    return known;
  }

  /** @param {string} name */
  async create(name) {
    // each session has weights of its own in memory: of the grids only one is kept
    const isStep = (/** @type {string} */ one) => one.startsWith("step");
    if (isStep(name)) await this.release([...this.sessions.keys()].filter(isStep));
    const wanted = WEIGHTS[/** @type {keyof typeof WEIGHTS} */ (name)] ?? ["denoiser.safetensors"];
    const there = wanted.filter((file) => `model/${file}` in this.files);
    const [graph, ...data] = await Promise.all([
      get(`${this.base}model/${name}.onnx`).then((answer) => answer.arrayBuffer()),
      ...there.map((file) => this.weight(file)),
    ]);
    return this.ort.InferenceSession.create(new Uint8Array(graph), {
      executionProviders: [this.adapter?.kind ?? "wasm"],
      graphOptimizationLevel: "all",
      externalData: there.map((path, n) => ({ path, data: data[n] })),
    });
  }

  /** @param {string[]} names */
  async release(names) {
    const old = names.map((name) => this.sessions.get(name));
    for (const name of names) this.sessions.delete(name);
    for (const session of await Promise.allSettled(old)) {
      if (session.status === "fulfilled") await session.value?.release();
    }
  }

  /** Evaluates a graph. @param {string} name @param {Tensors} inputs
   * @returns {Promise<Record<string, Float32Array>>} */
  async run(name, inputs) {
    const session = await this.session(name);
    const { Tensor } = this.ort;
    const kindOf = (/** @type {Tensors[string]["data"]} */ data) =>
      (data instanceof Float32Array ? "float32" : data instanceof Uint8Array ? "bool" : "int64");
    const given = Object.entries(inputs).filter(([input]) => session.inputNames.includes(input));
    const outputs = await session.run(Object.fromEntries(given.map(([input, { data, dims }]) =>
      [input, new Tensor(kindOf(data), data, dims)])));
    const read = Object.entries(outputs).map(async ([output, tensor]) =>
      [output, Float32Array.from(await tensor.getData())]);
    return Object.fromEntries(await Promise.all(read));
  }

  /** Milliseconds of the second evaluation, since the first also prepares. @param {() => Promise<unknown>} work */
  static async timed(work) {
    await work();
    const began = performance.now();
    await work();
    return performance.now() - began;
  }
}
