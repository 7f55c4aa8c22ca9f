// Nearest neighbors by cosine, as `Retriever.retrieve` and the page's server find them.
import { choice } from "./noise.js";

export const MOST = 16; // neighbors
const NEAR = 0.9; // cosine above which two pictures are marked as nearly the same

/**
 * @typedef {{dim: number, count: number, vectors: Float32Array}} Index
 * @typedef {{id: number, score: number}} Found
 */

/** @param {Index} index @param {number} item */
export const vectorOf = ({ dim, vectors }, item) => vectors.subarray(item * dim, (item + 1) * dim);

/** @param {Float32Array} a @param {Float32Array} b */
export const cosine = (a, b) => {
  let sum = 0;
  for (let n = 0; n < a.length; n++) sum += a[n] * b[n];
  return Math.min(1, sum);
};

/**
 * The k nearest, the nearest first.
 * @param {Index} index
 * @param {Float32Array} vector
 * @param {number} k
 * @param {(item: number) => boolean} allowed
 * @returns {Found[]}
 */
export const nearest = (index, vector, k, allowed = () => true) => {
  const found = [];
  for (let id = 0; id < index.count; id++) {
    if (allowed(id)) found.push({ id, score: cosine(vectorOf(index, id), vector) });
  }
  return found.sort((a, b) => b.score - a.score || a.id - b.id).slice(0, k);
};

/**
 * A picture at random, of a class or of all.
 * @param {Index} index @param {bigint} seed @param {(item: number) => boolean} [member]
 */
export const randomItem = ({ count }, seed, member) => {
  if (!member) return choice(seed, count);
  const members = Array.from({ length: count }, (_, at) => at).filter(member);
  if (!members.length) throw new Error("the database has no picture of this class");
  return members[choice(seed, members.length)];
};

/**
 * What the page shows of neighbors; see `rows_of` in choose.py.
 * @param {Index} index @param {number[]} ids @param {Map<number, number>} scores
 * @param {number[]} pinned @param {(item: number) => string | null} labelOf
 */
export const rowsOf = (index, ids, scores, pinned, labelOf) => ids.map((id, n) => {
  const twin = ids.slice(0, n).find((other) => cosine(vectorOf(index, id), vectorOf(index, other)) > NEAR);
  const score = scores.get(id);
  return {
    id, on: true, pin: pinned.includes(id), twin: twin ?? null, label: labelOf(id),
    score: score === undefined ? null : Math.round(score * 1e4) / 1e4,
  };
});
