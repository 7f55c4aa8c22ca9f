// ONNX Runtime with the graphs of a bundle, on one adapter: in this thread, or in one of its own
// (`runtime_worker.js`), since what it has taken it gives back with its thread alone.
import { bytesOf, free, numbersOf } from "./files.js";
import { remote } from "./remote.js";

/**
 * @typedef {import("./painting.js").Tensors} Tensors
 * @typedef {import("./adapters.js").Adapter} Adapter
 * @typedef {Record<string, {data: Float32Array, dims: number[]}>} Outputs
 * @typedef {Record<string, Blob>} Files by their names in the folder
 * @typedef {{
 *   prepare: (names: string[], files: Files) => Promise<void>,
 *   evaluate: (name: string, inputs: Tensors, files: Files) => Promise<Outputs>,
 *   end: () => void,
 * }} Running what answers for a runtime, wherever it is
 */

export const RUNTIMES = {
  webgpu: { script: "ort.webgpu.min.mjs", program: "ort-wasm-simd-threaded.asyncify" },
  wasm: { script: "ort.wasm.min.mjs", program: "ort-wasm-simd-threaded" },
};
const WEIGHTS = {
  encoder: ["autoencoder.safetensors"], decoder: ["autoencoder.safetensors"], embed: ["encoder.safetensors"],
};
const PATIENCE = 60_000; // milliseconds in which a runtime has started, or never will: threads may not come

/** The weights that a graph refers to. @param {string} name */
const weightsOf = (name) => WEIGHTS[/** @type {keyof typeof WEIGHTS} */ (name)] ?? ["denoiser.safetensors"];

/** Files that a graph needs on an adapter, of those that there are.
 * @param {string} name @param {Adapter} adapter @param {Record<string, number>} files */
export const needed = (name, { kind }, files) => [`runtime/${RUNTIMES[kind].program}.wasm`, `model/${name}.onnx`,
  ...weightsOf(name).map((file) => `model/${file}`).filter((file) => file in files)];

export class Runtime {
  /** @param {string} base address of the exported folder @param {Adapter} adapter */
  constructor(base, adapter) {
    this.folder = `${base}runtime/`;
    this.adapter = adapter;
    /** @type {any} */
    this.ort = null;
    this.running = false; // whether it has its program
    /** Those that are made. @type {Map<string, any>} */
    this.sessions = new Map();
    /** @type {Map<string, Uint8Array>} */
    this.read = new Map(); // weights and a program in memory, while they are made use of
  }

  /** Its script, once. */
  async start() {
    if (this.ort) return;
    const { script, program } = RUNTIMES[this.adapter.kind], { threads } = this.adapter;
    // it never changes its number of threads: each has an instance of its own
    this.ort = await import(`${this.folder}${script}?${threads}`);
    Object.assign(this.ort.env.wasm, { wasmPaths: { mjs: `${this.folder}${program}.mjs` }, numThreads: threads,
      initTimeout: PATIENCE });
  }

  /** Makes graphs ready that share weights. @param {string[]} names @param {Files} files */
  async prepare(names, files) {
    try {
      await this.start();
      for (const name of names) await this.session(name, files);
    } finally {
      this.forget();
    }
  }

  /** @param {string} name of a graph @param {Files} files */
  async session(name, files) {
    const known = this.sessions.get(name);
    if (known) return known;
    // each session has weights of its own in memory: of the grids only one is kept
    if (name.startsWith("step")) await this.release([...this.sessions.keys()].filter((one) => one.startsWith("step")));
    const made = await this.create(name, files);
    this.sessions.set(name, made);
    return made;
  }

  /** @param {string} name @param {Files} files */
  async create(name, files) {
    const there = weightsOf(name).filter((path) => `model/${path}` in files);
    const [graph, ...data] = await Promise.all([
      files[`model/${name}.onnx`].arrayBuffer(),
      ...there.map((path) => this.once(`model/${path}`, async (file) =>
        new Uint8Array((await numbersOf(file)).buffer), files)),
    ]);
    // the program as a whole: of one that it reads bit by bit the browser keeps two more copies for long
    const program = `runtime/${RUNTIMES[this.adapter.kind].program}.wasm`;
    if (!this.running) this.ort.env.wasm.wasmBinary = (await this.once(program, bytesOf, files)).buffer;
    const session = await this.ort.InferenceSession.create(new Uint8Array(graph), {
      executionProviders: [this.adapter.kind],
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

  /** What a file is read as, for all that are made of it together.
   * @param {string} name @param {(file: Blob) => Promise<Uint8Array>} reading @param {Files} files */
  async once(name, reading, files) {
    const made = this.read.get(name) ?? await reading(files[name]);
    this.read.set(name, made);
    return made;
  }

  /** @param {string[]} names */
  async release(names) {
    const old = names.map((name) => this.sessions.get(name));
    for (const name of names) this.sessions.delete(name);
    await Promise.allSettled(old.map((session) => session.release()));
  }

  /** Gives up what sessions were made of: they have copies of their own. */
  forget() {
    for (const bytes of this.read.values()) free(bytes);
    this.read.clear();
  }

  /** @param {string} name @param {Tensors} inputs @param {Files} files @returns {Promise<Outputs>} */
  async evaluate(name, inputs, files) {
    await this.prepare([name], files);
    const session = this.sessions.get(name), { Tensor } = this.ort;
    const kindOf = (/** @type {Tensors[string]["data"]} */ data) =>
      (data instanceof Float32Array ? "float32" : data instanceof Uint8Array ? "bool" : "int64");
    const given = Object.entries(inputs).filter(([input]) => session.inputNames.includes(input));
    const outputs = await session.run(Object.fromEntries(given.map(([input, { data, dims }]) =>
      [input, new Tensor(kindOf(data), data, dims)])));
    const read = Object.entries(outputs).map(async ([output, tensor]) =>
      [output, { data: await tensor.getData(), dims: [...tensor.dims] }]); // its own copy
    return Object.fromEntries(await Promise.all(read));
  }

  /** Gives up what can be given up here. Nobody waits: a device that is lost may never answer. */
  end() {
    this.release([...this.sessions.keys()]);
  }
}

/** A runtime in this thread. @param {string} base @param {Adapter} adapter @returns {Running} */
export const runtimeHere = (base, adapter) => new Runtime(base, adapter);

/** A runtime in a thread that ends with it. @param {string} base @param {Adapter} adapter @returns {Running} */
export const runtimeApart = (base, adapter) => {
  const { call, end } = remote(new Worker(new URL("runtime_worker.js", import.meta.url), { type: "module" }));
  const opened = call("open", base, adapter);
  opened.catch(() => {}); // whoever asks hears of it
  const ask = async (/** @type {string} */ verb, /** @type {unknown[]} */ ...args) => {
    await opened;
    return call(verb, ...args);
  };
  return {
    prepare: (...args) => ask("prepare", ...args), evaluate: (...args) => ask("evaluate", ...args),
    end: () => end("it is not used any more"),
  };
};
