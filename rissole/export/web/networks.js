// The graphs of a bundle in ONNX Runtime, computed by the adapter that it is told to use.
import { bytesOf, free, get, Missing, numbersOf } from "./files.js";

/**
 * @typedef {import("./painting.js").Tensors} Tensors
 * @typedef {import("./adapters.js").Adapter} Adapter
 * @typedef {(loaded: number, all: number) => void} Progress
 */

const WEIGHTS = {
  encoder: ["autoencoder.safetensors"], decoder: ["autoencoder.safetensors"], embed: ["encoder.safetensors"],
};
const RUNTIMES = {
  webgpu: { script: "ort.webgpu.min.mjs", program: "ort-wasm-simd-threaded.asyncify" },
  wasm: { script: "ort.wasm.min.mjs", program: "ort-wasm-simd-threaded" },
};

const PATIENCE = 60_000; // milliseconds in which a runtime has started, or never will: threads may not come

/** What a runtime says when it has no memory left. */
const FULL = /bad_alloc|out of memory|could not allocate|Aborted/i;

/** An error in plain words. @param {unknown} error */
const plain = (error) => {
  if (error instanceof Missing) return error;
  const said = error instanceof Error ? error.message : String(error);
  return new Error(FULL.test(said) ? "this device has too little memory for the model" : said);
};

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
   * @param {Map<string, Blob>} [loaded] files that are here already */
  constructor(base, files, loaded = new Map()) {
    this.base = base;
    this.files = files;
    /** @type {any} */
    this.ort = null;
    /** What has its turn, see `inTurn`. @type {Promise<unknown>} */
    this.busy = Promise.resolve();
    /** @type {Adapter | null} */
    this.adapter = null;
    /** Those that are made. @type {Map<string, any>} */
    this.sessions = new Map();
    /** @type {Map<string, Uint8Array>} */
    this.read = new Map(); // weights and a program in memory, while they are made use of
    this.running = false; // whether the runtime has its program
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
    const mine = this.busy.then(work).finally(() => this.forget());
    this.busy = mine.catch(() => {});
    return mine;
  }

  /** Starts the runtime; sessions of another one are given up. @param {Adapter} adapter */
  use(adapter) {
    return this.inTurn(() => this.start(adapter));
  }

  /** @param {Adapter} adapter */
  async start(adapter) {
    this.release([...this.sessions.keys()]); // nobody waits: a device that is lost may never answer
    const { script, program } = RUNTIMES[adapter.kind], folder = `${this.base}runtime/`;
    // a runtime never changes its number of threads: each has an instance of its own
    this.ort = await import(`${folder}${script}?${adapter.threads}`);
    Object.assign(this.ort.env.wasm, { wasmPaths: { mjs: `${folder}${program}.mjs` }, numThreads: adapter.threads,
      initTimeout: PATIENCE });
    this.adapter = adapter;
    this.running = false;
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

  /** @param {string} name of a graph */
  async session(name) {
    const known = this.sessions.get(name);
    if (known) return known;
    // each session has weights of its own in memory: of the grids only one is kept
    if (name.startsWith("step")) await this.release([...this.sessions.keys()].filter((one) => one.startsWith("step")));
    const made = await this.create(name);
    this.sessions.set(name, made);
    return made;
  }

  /** @param {string} name */
  async create(name) {
    const wanted = WEIGHTS[/** @type {keyof typeof WEIGHTS} */ (name)] ?? ["denoiser.safetensors"];
    const there = wanted.filter((path) => `model/${path}` in this.files);
    const [graph, ...data] = await Promise.all([
      this.file(`model/${name}.onnx`).then((file) => file.arrayBuffer()),
      ...there.map((path) => this.numbers(`model/${path}`)),
    ]);
    // the program as a whole: of one that it reads bit by bit the browser keeps two more copies for long
    if (!this.running) this.ort.env.wasm.wasmBinary = (await this.program()).buffer;
    const session = await this.ort.InferenceSession.create(new Uint8Array(graph), {
      executionProviders: [this.adapter?.kind ?? "wasm"],
      graphOptimizationLevel: "all",
      // memory that is taken in ever larger pieces, and kept, is not for a tab
      enableCpuMemArena: false,
      enableMemPattern: false,
      logSeverityLevel: 3, // errors alone
      externalData: there.map((path, n) => ({ path, data: data[n] })),
    });
    this.running = true;
    return session;
  }

  /** @param {string[]} names */
  async release(names) {
    const old = names.map((name) => this.sessions.get(name));
    for (const name of names) this.sessions.delete(name);
    await Promise.allSettled(old.map((session) => session.release()));
  }

  /** Makes ready what a picture needs, so that a device that cannot do it says so at once.
   * @param {string[]} names of graphs */
  prepare(names) {
    // in one turn: several sessions are made of the same weights
    return this.inTurn(() => this.steadily(async () => { for (const name of names) await this.session(name); }));
  }

  /** Weights as float32. @param {string} name @returns {Promise<Uint8Array>} */
  async numbers(name) {
    const known = this.read.get(name);
    if (known) return known;
    const made = new Uint8Array((await numbersOf(await this.file(name))).buffer);
    this.read.set(name, made);
    return made;
  }

  /** The runtime's own code. */
  async program() {
    const { program } = RUNTIMES[this.adapter?.kind ?? "wasm"], name = `runtime/${program}.wasm`;
    const made = await bytesOf(await this.file(name));
    this.read.set(name, made);
    return made;
  }

  /** Gives up what sessions were made of: they have copies of their own. */
  forget() {
    for (const bytes of this.read.values()) free(bytes);
    this.read.clear();
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
    return this.inTurn(() => this.steadily(() => this.evaluate(name, inputs)));
  }

  /** Does something, on the simplest adapter where another one gives out.
   * @template T @param {() => Promise<T>} work @returns {Promise<T>} */
  async steadily(work) {
    try {
      return await work();
    } catch (error) {
      const simplest = this.adapter?.kind === "wasm" && this.adapter.threads === 1;
      if (simplest || error instanceof Missing) throw plain(error);
      await this.start({ kind: "wasm", threads: 1 });
      return work().catch((again) => { throw plain(again); });
    }
  }

  /** @param {string} name @param {Tensors} inputs */
  async evaluate(name, inputs) {
    const session = await this.session(name);
    const { Tensor } = this.ort;
    const kindOf = (/** @type {Tensors[string]["data"]} */ data) =>
      (data instanceof Float32Array ? "float32" : data instanceof Uint8Array ? "bool" : "int64");
    const given = Object.entries(inputs).filter(([input]) => session.inputNames.includes(input));
    const outputs = await session.run(Object.fromEntries(given.map(([input, { data, dims }]) =>
      [input, new Tensor(kindOf(data), data, dims)])));
    const read = Object.entries(outputs).map(async ([output, tensor]) =>
      [output, { data: await tensor.getData(), dims: [...tensor.dims] }]); // its own copy
    return Object.fromEntries(await Promise.all(read));
  }
}
