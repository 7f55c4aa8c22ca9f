// The graphs of a bundle in ONNX Runtime, computed by the adapter that it is told to use.
import { get, Missing } from "./files.js";
import { needed, runtimeApart, runtimeHere, RUNTIMES } from "./runtime.js";

/**
 * @typedef {import("./painting.js").Tensors} Tensors
 * @typedef {import("./adapters.js").Adapter} Adapter
 * @typedef {import("./runtime.js").Running} Running
 * @typedef {(loaded: number, all: number) => void} Progress
 */

/** @type {Adapter} */
const SIMPLEST = { kind: "wasm", threads: 1 };

/** What a runtime says when it has no memory left. */
const FULL = /bad_alloc|out of memory|could not allocate|Aborted/i;

/** An error in plain words. @param {unknown} error @param {string} what the memory was for */
const plain = (error, what) => {
  if (error instanceof Missing) return error;
  const said = error instanceof Error ? error.message : String(error);
  return new Error(FULL.test(said) ? `this device has too little memory for ${what}` : said);
};

/** The first runtime lies in this thread: one of its own takes 50 MB more. What comes after one that failed has
 * its own, and gives its memory back whole. @type {(base: string, adapter: Adapter, again: boolean) => Running} */
const opened = (base, adapter, again) => (again ? runtimeApart : runtimeHere)(base, adapter);

/** Reads a file and says how far it is. What it gives may lie outside the tab's memory.
 * @param {string} address @param {(bytes: number) => void} progress @returns {Promise<Blob>} */
const download = async (address, progress) => {
  const answer = await get(address);
  const reader = answer.body?.getReader(), parts = [];
  for (let part = await reader?.read(); part && !part.done; part = await reader?.read()) {
    parts.push(part.value);
    progress(part.value.length);
  }
  return new Blob(parts);
};

export class Networks {
  /** @param {string} base address of the exported folder @param {Record<string, number>} files sizes
   * @param {Map<string, Blob>} [loaded] files that are here already
   * @param {typeof opened} [open] a runtime; whether one has failed before */
  constructor(base, files, loaded = new Map(), open = opened) {
    this.base = base;
    this.files = files;
    this.open = open;
    /** @type {Adapter} */
    this.adapter = SIMPLEST;
    /** @type {Running | null} */
    this.runtime = null; // it is started when something is asked of it
    this.failed = false; // whether one has
    /** What has its turn, see `inTurn`. @type {Promise<unknown>} */
    this.busy = Promise.resolve();
    /** @type {Map<string, Promise<Blob>>} */
    this.loaded = new Map([...loaded].map(([name, file]) => [name, Promise.resolve(file)]));
  }

  /**
   * Does one thing after another: a sketch may be painted while a query is encoded, not every adapter can
   * do both, and of the grids one is given up for another. What has its turn must not ask for another and
   * wait for it: it would wait for itself.
   * @template T @param {() => Promise<T>} work @returns {Promise<T>}
   */
  inTurn(work) {
    const mine = this.busy.then(work);
    this.busy = mine.catch(() => {});
    return mine;
  }

  /** Computes with another adapter from now on. @param {Adapter} adapter */
  use(adapter) {
    return this.inTurn(async () => this.renew(adapter));
  }

  /** Ends the runtime; the next one starts when it is asked. @param {Adapter} adapter */
  renew(adapter) {
    this.runtime?.end();
    this.runtime = null;
    this.adapter = adapter;
  }

  /** Loads what is heavy, with one report of how far: all weights, and what some adapters need.
   * @param {Adapter[]} adapters @param {Progress} progress */
  async load(adapters, progress) {
    const programs = adapters.map(({ kind }) => `runtime/${RUNTIMES[kind].program}.wasm`);
    const weights = Object.keys(this.files).filter((name) => /^model\/.*\.safetensors$/.test(name));
    const names = [...new Set([...programs, ...weights])];
    const all = names.reduce((sum, name) => sum + this.files[name], 0);
    let loaded = 0;
    await Promise.all(names.map((name) => this.file(name, (bytes) => {
      loaded += bytes;
      progress(loaded, all);
    })));
  }

  /** @param {string} name @param {(bytes: number) => void} [progress] */
  file(name, progress = () => {}) {
    const coming = this.loaded.get(name) ?? download(`${this.base}${name}`, progress);
    this.loaded.set(name, coming);
    coming.catch(() => { if (this.loaded.get(name) === coming) this.loaded.delete(name); }); // it may come later
    return coming;
  }

  /** What graphs need. @param {string[]} graphs @returns {Promise<Record<string, Blob>>} */
  async filesOf(graphs) {
    const names = [...new Set(graphs.flatMap((graph) => needed(graph, this.adapter, this.files)))];
    return Object.fromEntries(await Promise.all(names.map(async (name) => [name, await this.file(name)])));
  }

  /** Makes ready what a picture needs, so that a device that cannot do it says so at once.
   * @param {string[]} names of graphs @returns {Promise<void>} */
  prepare(names) {
    return this.inTurn(() => this.steadily(async (runtime) =>
      runtime.prepare(names, await this.filesOf(names)), "the model"));
  }

  /** Evaluates a graph. @param {string} name @param {Tensors} inputs
   * @returns {Promise<Record<string, Float32Array>>} */
  async run(name, inputs) {
    const outputs = await this.tensors(name, inputs);
    return Object.fromEntries(Object.entries(outputs).map(([output, { data }]) => [output, data]));
  }

  /** The same, with shapes.
   * @param {string} name @param {Tensors} inputs
   * @returns {Promise<Record<string, {data: Float32Array, dims: number[]}>>} */
  tensors(name, inputs) {
    return this.inTurn(() => this.steadily(async (runtime) =>
      runtime.evaluate(name, inputs, await this.filesOf([name])), "this picture"));
  }

  /** Does something, once more on the simplest adapter where it fails. A runtime that failed is not asked
   * again: after it has run out of memory it answers with nonsense.
   * @template T @param {(runtime: Running) => Promise<T>} work @param {string} what it is for
   * @returns {Promise<T>} */
  async steadily(work, what) {
    const attempt = () => work(this.runtime ??= this.open(this.base, this.adapter, this.failed));
    try {
      return await attempt();
    } catch (error) {
      if (error instanceof Missing) throw error;
      this.failed = true;
      this.renew(SIMPLEST);
    }
    return attempt().catch((error) => {
      if (!(error instanceof Missing)) this.renew(SIMPLEST);
      throw plain(error, what);
    });
  }
}
