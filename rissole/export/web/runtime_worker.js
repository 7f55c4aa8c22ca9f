// The thread of a runtime: answers `runtimeApart` in `runtime.js`.
import { Runtime } from "./runtime.js";

/** @type {Runtime | null} */
let runtime = null;

globalThis.onmessage = async ({ data: { id, verb, args } }) => {
  const answer = /** @type {(message: unknown, moved?: Transferable[]) => void} */ (
    /** @type {any} */ (globalThis).postMessage);
  try {
    if (verb === "open") runtime = new Runtime(args[0], args[1]);
    const value = verb === "open" ? null : await /** @type {any} */ (runtime)[verb](...args);
    answer({ id, value }, Object.values(value ?? {}).map(({ data }) => data.buffer)); // nobody here reads them again
  } catch (error) {
    answer({ id, error: error instanceof Error ? error.message : String(error) });
  }
};
