// What runs in another thread, as promises and as a stream: the verbs of `worker.js` for the page, and
// those of `runtime_worker.js` for the engine.

/**
 * @typedef {import("./painting.js").PaintStep & {neighbors: number[], rgba: Uint8ClampedArray, final: boolean}} Shown
 * @typedef {{answer: (value: any) => void, refuse: (error: Error) => void, told?: (message: any) => void}} Call
 */

/** @param {Worker} worker */
export const remote = (worker) => {
  /** @type {Map<number, Call>} */
  const calls = new Map();
  let last = 0;
  /** @type {Error | null} */
  let ended = null; // why nothing is answered any more

  /** Nobody waits for what does not come. @param {string} reason */
  const end = (reason) => {
    ended = new Error(`the painting thread has ended (${reason}): load the page again`);
    worker.terminate();
    for (const { refuse } of calls.values()) refuse(ended);
    calls.clear();
  };

  worker.onmessage = ({ data }) => {
    const call = calls.get(data.id);
    if (!call) return;
    if ("progress" in data || "step" in data) {
      call.told?.(data);
      return;
    }
    calls.delete(data.id);
    if ("error" in data) call.refuse(new Error(data.error));
    else call.answer(data.value);
  };
  // its script did not come, or something failed outside of any verb, a thread of the runtime perhaps
  worker.onerror = (event) => {
    event.preventDefault();
    end(event.message || "its script could not be loaded");
  };
  worker.onmessageerror = () => end("an answer could not be read");

  /** @type {(verb: string, args: unknown[], told?: (message: any) => void) => {id: number, value: Promise<any>}} */
  const ask = (verb, args, told) => {
    const id = last += 1;
    if (ended) return { id, value: Promise.reject(ended) };
    const value = new Promise((answer, refuse) => { calls.set(id, { answer, refuse, told }); });
    worker.postMessage({ id, verb, args });
    return { id, value };
  };

  return {
    end,
    /** @type {(verb: string, ...args: unknown[]) => Promise<any>} */
    call: (verb, ...args) => ask(verb, args).value,
    /** @type {(base: string, adapter: unknown, progress: (loaded: number, all: number) => void) => Promise<any>} */
    open: (base, adapter, progress) =>
      ask("open", [base, adapter], ({ progress: [loaded, all] }) => progress(loaded, all)).value,
    /**
     * Paints; `shown` is called for steps worth a look. `stop` ends it, and `whole` says whether it
     * came to its end.
     * @param {import("./recipe.js").Recipe} recipe
     * @param {Float32Array | null} init
     * @param {string} source of its neighbors
     * @param {number | number[]} rate milliseconds between two previews; or the numbers of the steps that
     *   are decoded, and then every step is told
     * @param {(step: Shown) => void} shown
     */
    paint: (recipe, init, source, rate, shown) => {
      const { id, value } = ask("paint", [recipe, init, rate, source],
        ({ step }) => { if (calls.has(id)) shown(step); });
      return { whole: value, stop: () => worker.postMessage({ id, stop: true }) };
    },
  };
};
