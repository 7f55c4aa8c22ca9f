// One picture on an adapter, to see how fast it is and whether it paints what the others paint. It
// runs in a thread of its own, which ends with it: what a runtime has taken it never gives back.
import { Networks } from "./networks.js";
import { normal } from "./noise.js";
import { paint } from "./painting.js";

/** @typedef {import("./engine.js").Facts} Facts */

const NEIGHBORS = 2;

/** Pixels of one call of the network, on noise. @param {Networks} networks @param {Facts} facts */
const painted = async (networks, { shape, defaults: { grid } }) => {
  const { channels, size } = shape, dims = [1, NEIGHBORS, channels, size, size], count = channels * size * size;
  const features = await networks.tensors("neighbors", { latents: { data: normal(1n, NEIGHBORS * count), dims } });
  const plan = { shape, features, count: NEIGHBORS, noise: normal(0n, count), scale: 1, steps: 1, order: "parallel",
    grid, visible: new Uint8Array(NEIGHBORS * grid ** 2).fill(1) };
  /** @type {Float32Array} */
  let latents = new Float32Array();
  for await (const { estimate } of paint((name, inputs) => networks.run(name, inputs), plan)) latents = estimate;
  return (await networks.run("decoder", { latents: { data: latents, dims: [1, channels, size, size] } })).pixels;
};

globalThis.onmessage = async ({ data: { base, facts, loaded, adapter } }) => {
  const answer = /** @type {(message: unknown) => void} */ (/** @type {any} */ (globalThis).postMessage);
  try {
    const networks = new Networks(base, facts.files, loaded);
    await networks.use(adapter);
    await painted(networks, facts); // the first picture also prepares
    const began = performance.now(), pixels = await painted(networks, facts);
    if (networks.adapter !== adapter) throw new Error("it gave out");
    answer({ milliseconds: performance.now() - began,
      pixels: Uint8ClampedArray.from(pixels, (value) => (value + 1) * 127.5) });
  } catch (error) {
    answer({ error: error instanceof Error ? error.message : String(error) });
  }
};
