// The engine in a thread of its own: answers the verbs that the page sends, see `remote.js`.
import { Engine } from "./engine.js";

/** @type {Engine | null} */
let engine = null;
/** @type {Set<number>} */
const stopped = new Set(); // runs that nobody wants any more

/** @type {(message: unknown, moved?: Transferable[]) => void} */
const send = (message, moved = []) => /** @type {any} */ (globalThis).postMessage(message, moved);

const opened = () => {
  if (!engine) throw new Error("the model is not loaded yet");
  return engine;
};

/** @type {Record<string, (id: number, ...args: any[]) => Promise<unknown>>} */
const verbs = {
  open: async (id, base, adapter) => {
    engine = await Engine.open(base, { adapter, progress: (...progress) => send({ id, progress }) });
    return engine.inspect();
  },
  inspect: async () => opened().inspect(),
  retrieve: (_, query, how) => opened().retrieve(query, how),
  near: async (_, query, ids) => {
    const { index } = opened();
    const vector = query.pixels ? (await opened().embed(query.pixels)).vector
      : index.vectors.subarray(query.item * index.dim, (query.item + 1) * index.dim);
    return opened().rowsNear(vector, ids);
  },
  embed: (_, pixels) => opened().embed(pixels),
  decode: (_, latents) => opened().decode(latents),
  paint: async (id, recipe, init, rate) => {
    let last = -Infinity;
    for await (const step of opened().paint(recipe, init)) {
      if (stopped.delete(id)) return false;
      const final = step.index === step.blocks && step.step === step.steps;
      if (!final && performance.now() - last < rate) continue;
      // previews only where there is time: a picture of few steps has none to lose
      const rgba = await opened().decode(step.estimate);
      last = performance.now();
      send({ id, step: { ...step, rgba, final } }, [rgba.buffer]);
      await new Promise((done) => { setTimeout(done, 0); }); // a stop is heard between two steps
    }
    stopped.delete(id);
    return true;
  },
};

globalThis.onmessage = async ({ data: { id, verb, args, stop } }) => {
  if (stop) {
    stopped.add(id);
    return;
  }
  try {
    send({ id, value: await verbs[verb](id, ...args) });
  } catch (error) {
    send({ id, error: error instanceof Error ? error.message : String(error) });
  }
};
