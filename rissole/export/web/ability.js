// What a browser must be able to do, asked before anything heavy is loaded.

// a function that counts the bits of each of sixteen bytes at once
const SIMD = Uint8Array.of(0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0,
  253, 15, 253, 98, 11);

/** Whether a worker may be a module: a browser that can do it asks which kind is wanted. */
const hasModuleWorkers = () => {
  let asked = false;
  const address = URL.createObjectURL(new Blob([""], { type: "text/javascript" }));
  try {
    new Worker(address, { get type() { asked = true; return /** @type {"module"} */ ("module"); } }).terminate();
  } catch { /* it has no workers at all */ }
  URL.revokeObjectURL(address);
  return asked;
};

/** @type {[string, () => boolean][]} */
const NEEDED = [
  ["wasm", () => WebAssembly.validate(SIMD)],
  ["workers", hasModuleWorkers],
  ["drawing", () => typeof OffscreenCanvas === "function"],
  ["streams", () => typeof ReadableStream === "function" && typeof Blob.prototype.arrayBuffer === "function"],
];

/** What this browser lacks, by the names of `texts.browser.lacks`. @returns {string[]} */
export const lacking = () => NEEDED.filter(([, has]) => {
  try { return !has(); } catch { return true; }
}).map(([name]) => name);
