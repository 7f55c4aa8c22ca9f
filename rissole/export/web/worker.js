// The engine in a thread of its own: answers the verbs that the page sends, see `remote.js`.
import { Engine } from "./engine.js";

/** @type {(engine: Promise<Engine>) => void} */
let open = () => {};
/** Whatever is asked for before the model is there waits for it, even before it is asked for: the page
 * asks for the photos of an earlier visit first. @type {Promise<Engine>} */
const opened = new Promise((done) => { open = done; });
/** @type {Set<number>} */
const wanted = new Set(); // paintings that nobody has stopped

/** @type {(message: unknown, moved?: Transferable[]) => void} */
const send = (message, moved = []) => /** @type {any} */ (globalThis).postMessage(message, moved);

/** What the engine does in one go. */
const ONES = ["retrieve", "near", "similarity", "nearestTo", "photoNear", "latentOf", "embed", "decode", "photo",
  "photos", "known", "forget", "extend", "inspect", "keep"];

/** @type {Record<string, (id: number, ...args: any[]) => Promise<unknown>>} */
const verbs = {
  open: async (id, base, adapter) => {
    open(Engine.open(base, { adapter, progress: (...progress) => send({ id, progress }) }));
    return (await opened).inspect();
  },
  ...Object.fromEntries(ONES.map((name) => [name, async (_, ...args) =>
    /** @type {any} */ (await opened)[name](...args)])),
  paint: async (id, recipe, init, rate, source) => {
    wanted.add(id); // at once: a stop may come while the model does
    const engine = await opened;
    let last = 0;
    for await (const step of engine.paint(recipe, init, source)) {
      await new Promise((done) => { setTimeout(done, 0); }); // a stop is heard between two steps
      if (!wanted.has(id)) return false;
      const final = step.index === step.blocks && step.step === step.steps;
      const due = Array.isArray(rate) ? rate.includes((step.index - 1) * step.steps + step.step)
        : performance.now() - last >= rate; // previews only where there is time: a sketch has none to lose
      if (!final && !due) {
        if (Array.isArray(rate)) send({ id, step: { ...step, final } });
        continue;
      }
      const rgba = await engine.decode(step.estimate);
      last = performance.now();
      send({ id, step: { ...step, rgba, final } }, [rgba.buffer]);
    }
    return true;
  },
};

globalThis.onmessage = async ({ data: { id, verb, args, stop } }) => {
  if (stop) {
    wanted.delete(id);
    return;
  }
  try {
    send({ id, value: await verbs[verb](id, ...args) });
  } catch (error) {
    send({ id, error: error instanceof Error ? error.message : String(error) });
  } finally {
    wanted.delete(id);
  }
};
