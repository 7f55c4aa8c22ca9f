// What neighbors are taken from: the pictures of the exported folder, a visitor's own photos, and
// single pictures behind those of another database (`rissole/app/extended.py`).
import { crc32 } from "./links.js";

/**
 * @typedef {{
 *   key: string, count: number, names: string[],
 *   vector: (item: number) => Float32Array, classOf: (item: number) => number,
 *   take: (items: number[]) => Promise<Float32Array>,
 * }} Database `names` are the classes, `classOf` gives a number among them or -1; `take` gives the
 *   latents of items, one after another
 * @typedef {{vector: Float32Array, latents: Float32Array}} Encoded
 */

/**
 * The database of the exported folder; latents are fetched when they are asked for.
 * @param {{key: string, classes: string[]}} facts
 * @param {import("./search.js").Index} index
 * @param {import("./files.js").Rows} rows
 * @param {Int16Array} classes
 * @returns {Database}
 */
export const shipped = ({ key, classes: names }, { dim, count, vectors }, rows, classes) => ({
  key, count, names,
  vector: (item) => vectors.subarray(item * dim, (item + 1) * dim),
  classOf: (item) => classes[item] ?? -1,
  take: (items) => rows.take(items),
});

/** @param {Float32Array[]} parts */
const joined = (parts) => {
  const all = new Float32Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
};

/** @param {Float32Array} numbers */
const digest = (numbers) =>
  crc32(new Uint8Array(numbers.buffer, numbers.byteOffset, numbers.byteLength)).toString(16).padStart(8, "0");

/**
 * A few pictures that only this browser has. The same ones have the same key.
 * @param {Encoded[]} photos
 * @returns {Database}
 */
export const own = (photos) => ({
  key: `${digest(joined(photos.map(({ latents }) => latents)))}${digest(joined(photos.map(({ vector }) => vector)))}`,
  count: photos.length, names: [],
  vector: (item) => photos[item].vector,
  classOf: () => -1,
  take: async (items) => joined(items.map((item) => photos[item].latents)),
});

/**
 * The pictures of one database, then those of another. Numbers of the first stay as they are, so
 * that what was painted from it can be repainted.
 * @param {Database} first
 * @param {Database} more
 * @returns {Database}
 */
export const extended = (first, more) => {
  const name = new TextEncoder().encode(first.key + more.key);
  const parts = [0, 1].map((half) => crc32(Uint8Array.of(half, ...name)).toString(16).padStart(8, "0"));
  return {
    key: parts.join(""), count: first.count + more.count, names: first.names,
    vector: (item) => (item < first.count ? first.vector(item) : more.vector(item - first.count)),
    classOf: (item) => (item < first.count ? first.classOf(item) : -1),
    take: async (items) => joined(await Promise.all(items.map((item) =>
      (item < first.count ? first.take([item]) : more.take([item - first.count]))))),
  };
};
