// Nearest neighbors by cosine, as `Retriever.retrieve` and the page's server find them.
import { choice } from "./noise.js";

export const MOST = 16; // neighbors
// two pictures are marked as nearly the same above both: any two dark ones have the first
const NEAR = 0.9; // cosine of their vectors
const ALIKE = 0.8; // correlation of their latents
const TYPICAL = 512; // pictures of a class that say what is typical of it

/**
 * @typedef {import("./databases.js").Database} Database
 * @typedef {{dim: number, count: number, vectors: Float32Array}} Index
 * @typedef {{id: number, score: number}} Found
 */

/** @param {Float32Array} a @param {Float32Array} b */
export const cosine = (a, b) => {
  let sum = 0;
  for (let n = 0; n < a.length; n++) sum += a[n] * b[n];
  return Math.min(1, sum);
};

/**
 * The k nearest, the nearest first.
 * @param {Database} database
 * @param {Float32Array} vector
 * @param {number} k
 * @param {(item: number) => boolean} allowed
 * @returns {Found[]}
 */
export const nearest = (database, vector, k, allowed) => {
  const found = [];
  for (let id = 0; id < database.count; id++) {
    if (allowed(id)) found.push({ id, score: cosine(database.vector(id), vector) });
  }
  return found.sort((a, b) => b.score - a.score || a.id - b.id).slice(0, k);
};

/** Pictures of some classes. @param {Database} database @param {(item: number) => boolean} member */
const membersOf = ({ count }, member) => {
  const members = Array.from({ length: count }, (_, at) => at).filter(member);
  if (!members.length) throw new Error("the database has no picture of this class");
  return members;
};

/**
 * A picture at random, of a class or of all.
 * @param {Database} database @param {bigint} seed @param {(item: number) => boolean} [member]
 */
export const randomItem = (database, seed, member) => {
  if (!member) return choice(seed, database.count);
  const members = membersOf(database, member);
  return members[choice(seed, members.length)];
};

/**
 * Unit vector in the middle of classes; of very many pictures, of some.
 * @param {Database} database @param {(item: number) => boolean} member
 */
export const typical = (database, member) => {
  const members = membersOf(database, member), stride = Math.ceil(members.length / TYPICAL);
  const some = members.filter((_, at) => at % stride === 0).map((item) => database.vector(item));
  const middle = Float32Array.from(some[0], (_, n) => some.reduce((sum, one) => sum + one[n], 0) / some.length);
  const length = Math.max(Math.sqrt(middle.reduce((sum, one) => sum + one * one, 0)), 1e-12);
  return middle.map((one) => one / length);
};

/** @type {WeakMap<Database, number>} */
const usual = new WeakMap();

/** Median cosine of pictures to the nearest other one, see `Retriever.usual_nearness`. @param {Database} database */
export const usualNearness = (database) => {
  const known = usual.get(database), stride = Math.ceil(database.count / TYPICAL), scores = [];
  if (known !== undefined) return known;
  for (let item = 0; item < database.count; item += stride) {
    scores.push(nearest(database, database.vector(item), 1, (one) => one !== item)[0].score);
  }
  scores.sort((a, b) => a - b);
  const middle = (scores[(scores.length - 1) >> 1] + scores[scores.length >> 1]) / 2;
  usual.set(database, middle);
  return middle;
};

/** Latents (channels, size, size) at half their resolution, without their channels' means.
 * @param {Float32Array} latents @param {number} channels */
const halved = (latents, channels) => {
  const size = Math.sqrt(latents.length / channels), half = size / 2, area = half * half;
  const small = Float32Array.from({ length: channels * area }, (_, at) => {
    const [c, y, x] = [Math.floor(at / area), Math.floor((at % area) / half), at % half];
    const first = (c * size + 2 * y) * size + 2 * x;
    return (latents[first] + latents[first + 1] + latents[first + size] + latents[first + size + 1]) / 4;
  });
  for (let c = 0; c < channels; c++) {
    const channel = small.subarray(c * area, (c + 1) * area);
    const mean = channel.reduce((sum, one) => sum + one, 0) / area;
    channel.forEach((one, at) => { channel[at] = one - mean; });
  }
  return small;
};

/**
 * Correlation of two latents, see `correlation` in `rissole/retrieval/duplicates.py`.
 * @param {Float32Array} a @param {Float32Array} b @param {number} channels
 */
export const correlation = (a, b, channels) => {
  const [x, y] = [halved(a, channels), halved(b, channels)];
  const dot = (/** @type {Float32Array} */ one, /** @type {Float32Array} */ other) =>
    one.reduce((sum, value, n) => sum + value * other[n], 0);
  return dot(x, y) / Math.max(Math.sqrt(dot(x, x) * dot(y, y)), 1e-9);
};

/** The first of some pictures that is nearly the same as another one, or null.
 * @param {Database} database @param {number} id @param {number[]} others @param {number} channels */
const twinOf = async (database, id, others, channels) => {
  for (const other of others) {
    if (cosine(database.vector(id), database.vector(other)) <= NEAR) continue;
    const [a, b] = [await database.take([id]), await database.take([other])];
    if (correlation(a, b, channels) > ALIKE) return other;
  }
  return null;
};

/**
 * What the page shows of neighbors; see `rows_of` in choose.py.
 * @param {Database} database @param {Float32Array | null} vector of the query, where it has one
 * @param {number[]} ids @param {number[]} pinned @param {number} channels of a latent
 */
export const rowsOf = (database, vector, ids, pinned, channels) => Promise.all(ids.map(async (id, n) => ({
  id, on: true, pin: pinned.includes(id), label: database.names[database.classOf(id)] ?? null,
  twin: await twinOf(database, id, ids.slice(0, n), channels),
  score: vector && Math.round(cosine(vector, database.vector(id)) * 1e4) / 1e4,
})));
