// How near a picture is to the photos that the network was trained on, see
// `rissole/retrieval/training_photos.py`: a few numbers of each are known, the photos are not.
import { get, numbersOf } from "./files.js";

export const FILE = "training-photos.safetensors";

/**
 * @typedef {{count: number, cells: number}} Shape how many photos, and the grid that latents are averaged over
 * @typedef {{channels: number, size: number}} Latents
 */

/** Means of a latent over a grid. @param {Float32Array} latent @param {Latents} of @param {number} cells */
export const meansOf = (latent, { channels, size }, cells) => {
  const means = new Float32Array(channels * cells * cells);
  const edges = Array.from({ length: cells },
    (_, n) => [Math.floor(n * size / cells), Math.ceil((n + 1) * size / cells)]);
  for (let at = 0; at < means.length; at++) {
    const channel = Math.floor(at / cells ** 2), [top, bottom] = edges[Math.floor(at / cells) % cells];
    const [left, right] = edges[at % cells];
    let sum = 0;
    for (let y = top; y < bottom; y++) {
      for (let x = left; x < right; x++) sum += latent[(channel * size + y) * size + x];
    }
    means[at] = sum / ((bottom - top) * (right - left));
  }
  return means;
};

/** A latent mirrored from left to right. @param {Float32Array} latent @param {number} size */
const mirrored = (latent, size) => latent.map((_, at) => latent[at - at % size + size - 1 - at % size]);

/**
 * The distance to the nearest photo or its mirror image, and the share of photos that were held out
 * which have a nearer one.
 * @param {Float32Array} numbers means of each photo, then distances of those held out
 * @param {Shape} shape @param {Float32Array} latent @param {Latents} of
 */
export const nearnessOf = (numbers, { count, cells }, latent, of) => {
  const length = of.channels * cells * cells, usual = numbers.subarray(count * length);
  let nearest = Infinity;
  for (const means of [latent, mirrored(latent, of.size)].map((one) => meansOf(one, of, cells))) {
    for (let photo = 0; photo < count; photo++) {
      let sum = 0;
      for (let n = 0; n < length; n++) sum += (numbers[photo * length + n] - means[n]) ** 2;
      nearest = Math.min(nearest, sum);
    }
  }
  const distance = Math.sqrt(nearest / length);
  return { distance, nearer: usual.filter((one) => one < distance).length / usual.length, usual };
};

/** As the page says it. @param {string} base @param {Shape} shape @param {Float32Array} latent @param {Latents} of */
export const photoOf = async (base, shape, latent, of) => {
  const numbers = await numbersOf(await (await get(base + FILE)).blob());
  const { distance, nearer, usual } = nearnessOf(numbers, shape, latent, of);
  return { count: shape.count.toLocaleString("en-US"), distance: distance.toFixed(2), nearer: Math.round(100 * nearer),
    usual: usual[Math.floor((usual.length - 1) / 2)].toFixed(2) };
};
