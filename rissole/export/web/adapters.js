// What this browser could compute with, and which of it is best. A graphics processor is chosen only
// where it is faster than WebAssembly at a real picture, and paints the same one.

/**
 * @typedef {{kind: "webgpu" | "wasm", threads: number, device?: string}} Adapter
 *   device: where it was found to be best, see `deviceOf`
 * @typedef {{milliseconds: number, pixels: Uint8ClampedArray}} Trial
 */

const MOST_THREADS = 4; // more are no faster for networks as small as these
const OFF = 2; // of 255, at most, that a pixel may be away from what WebAssembly paints
const PATIENCE = 3; // times as long as WebAssembly, at most, before a graphics processor is given up
const LEAST = 10_000; // milliseconds that it is given in any case: it prepares much the first time

export const canThread = () => globalThis.crossOriginIsolated && typeof SharedArrayBuffer === "function";

/** @returns {Promise<any>} the graphics processor; null for none and for one that is only imitated: it
 * is slower than the processor that imitates it */
const graphics = async () => {
  const found = await /** @type {any} */ (navigator).gpu?.requestAdapter().catch(() => null);
  return found && !(found.info?.isFallbackAdapter ?? found.isFallbackAdapter) ? found : null;
};

/** What there is here, and a name for the device: what is best on one may not be so on another, nor
 * with another version of the page or of the browser.
 * @param {string} version of the page
 * @returns {Promise<{there: Adapter[], device: string}>} WebAssembly first, with fewer threads after more */
export const surveyed = async (version) => {
  const gpu = await graphics(), { vendor = "", architecture = "", device = "" } = gpu?.info ?? {};
  const most = canThread() ? Math.max(1, Math.min(MOST_THREADS, navigator.hardwareConcurrency ?? 1)) : 1;
  /** @type {Adapter[]} */
  const there = [...new Set([most, 1])].map((threads) => ({ kind: "wasm", threads }));
  if (gpu) there.push({ kind: "webgpu", threads: 1 });
  return { there, device: [version, navigator.userAgent, most, vendor, architecture, device].join("|") };
};

/** Whether two pictures are the same, but for rounding.
 * @param {Uint8ClampedArray} one @param {Uint8ClampedArray} other */
export const alike = (one, other) =>
  one.length === other.length && one.every((value, at) => Math.abs(value - other[at]) <= OFF);

/**
 * The best of some adapters, each tried once.
 * @param {Adapter[]} there as `surveyed` lists them
 * @param {(adapter: Adapter, limit: number) => Promise<Trial>} attempt fails where the adapter does, or
 *   takes longer than a number of milliseconds
 * @returns {Promise<Adapter>}
 * @throws what the last attempt with WebAssembly failed with, where all did
 */
export const best = async (there, attempt) => {
  const [wasm, gpu] = ["wasm", "webgpu"].map((kind) => there.filter((one) => one.kind === kind));
  /** @type {unknown} */
  let reason = new Error("there is nothing to compute with");
  for (const adapter of wasm) {
    try {
      const known = await attempt(adapter, Infinity);
      return await faster(gpu, known, attempt) ?? adapter;
    } catch (error) {
      reason = error; // fewer threads need less memory
    }
  }
  throw reason;
};

/** @param {Adapter[]} gpu @param {Trial} known @param {(adapter: Adapter, limit: number) => Promise<Trial>} attempt */
const faster = async (gpu, known, attempt) => {
  for (const adapter of gpu) {
    const found = await attempt(adapter, Math.max(LEAST, PATIENCE * known.milliseconds)).catch(() => null);
    if (found && found.milliseconds < known.milliseconds && alike(found.pixels, known.pixels)) return adapter;
  }
  return null;
};

/**
 * The adapters of this browser that have to be tried; just one where nothing is open.
 * @param {Adapter | null} known to be best, as it was kept
 * @param {string} version of the page
 */
export const candidates = async (known, version) => {
  const { there, device } = await surveyed(version), here = there.map((one) => ({ ...one, device }));
  const first = known?.device === device
    && here.find(({ kind, threads }) => kind === known.kind && threads === known.threads);
  // fewer threads are there for a browser that fails with more
  return first ? [first] : here.some(({ kind }) => kind === "webgpu") ? here : here.slice(0, 1);
};

/** Tries an adapter in a thread of its own, see `trial.js`.
 * @param {import("./networks.js").Networks} networks whose files are loaded
 * @param {import("./engine.js").Facts} facts
 * @returns {(adapter: Adapter, limit: number) => Promise<Trial>} */
export const attempts = (networks, facts) => async (adapter, limit) => {
  const names = [...networks.loaded.keys()], files = await Promise.all(networks.loaded.values());
  const loaded = new Map(names.map((name, at) => [name, files[at]]));
  const worker = new Worker(new URL("trial.js", import.meta.url), { type: "module" });
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let late;
  try {
    return await new Promise((answer, refuse) => {
      worker.onmessage = ({ data }) => ("error" in data ? refuse(new Error(data.error)) : answer(data));
      worker.onerror = (event) => refuse(new Error(event.message || "the trying thread has ended"));
      if (Number.isFinite(limit)) late = setTimeout(() => refuse(new Error("it takes too long")), limit);
      worker.postMessage({ base: networks.base, facts, loaded, adapter });
    });
  } finally {
    clearTimeout(late);
    worker.terminate();
  }
};
