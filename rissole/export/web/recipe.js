// What determines a picture, checked once: `rissole/config.py` in the tab. Golden files hold both
// languages to the same texts.

export const ORDERS = ["parallel", "sequential", "independent"];
const GRIDS = [1, 2, 4];
export const LIMITS = { neighbors: 16, steps: 200, guidance: 20, strength: 4, repaints: 16, seed: 2n ** 64n - 1n };

/**
 * @typedef {{
 *   bundle: string | null, database: string | null, neighbors: number[],
 *   block_neighbors: [number, number, number[]][], order: string, grid: number,
 *   num_inference_steps: number, guidance_scale: number, seed: bigint, strength: number,
 *   blocks: number[][], init: Recipe | null,
 * }} Recipe
 */

/** A mistake of whoever asks; its text is one line. */
export class Refusal extends Error {}

/** @param {unknown} value @param {string} name @param {number} low @param {number} high */
const whole = (value, name, low, high) => {
  const number = typeof value === "bigint" ? Number(value) : value;
  if (typeof number !== "number" || !Number.isInteger(number)) throw new Refusal(`${name} must be a whole number`);
  if (number < low || number > high) throw new Refusal(`${name} must be from ${low} to ${high}, not ${number}`);
  return number;
};

/** @param {unknown} value @returns {bigint} */
const seedOf = (value) => {
  const text = String(value ?? 0);
  if (!/^\d{1,20}$/.test(text)) throw new Refusal("seed must be a whole number");
  if (BigInt(text) > LIMITS.seed) throw new Refusal(`seed must be from 0 to ${LIMITS.seed}, not ${text}`);
  return BigInt(text);
};

/** @param {unknown} value @param {string} name */
const listOf = (value, name) => {
  if (value === null || value === undefined) return [];
  if (!Array.isArray(value)) throw new Refusal(`${name} must be a list`);
  return value;
};

/** @param {unknown} value @param {string} name @returns {number[]} */
const idsOf = (value, name) => {
  const ids = [...new Set(listOf(value, name).map((id) => whole(id, `each of ${name}`, 0, 2 ** 53)))];
  if (ids.length < 1 || ids.length > LIMITS.neighbors) {
    throw new Refusal(`${name} must name 1 to ${LIMITS.neighbors} images, not ${ids.length}`);
  }
  return ids;
};

/** @param {unknown} value @param {number} grid @returns {[number, number]} */
const placeOf = (value, grid) => {
  const pair = typeof value === "string" ? value.split(",").map(Number) : listOf(value, "a block position");
  if (pair.length !== 2) throw new Refusal("a block position is (row, column)");
  const [row, col] = pair.map((at) => whole(at, "a block's row and column", 0, grid - 1));
  return [row, col];
};

/** @param {number[]} a @param {number[]} b */
const inOrder = (a, b) => a[0] - b[0] || a[1] - b[1];

/** @param {any} value @param {number} grid @returns {Recipe["block_neighbors"]} */
const ownOf = (value, grid) => {
  const items = Array.isArray(value) ? value
    : Object.entries(value ?? {}).map(([at, ids]) => [...placeOf(at, grid), ids]);
  if (items.some((item) => !Array.isArray(item) || item.length !== 3)) {
    throw new Refusal("block_neighbors must map (row, column) to a list of ids");
  }
  /** @type {Map<string, [number, number, number[]]>} */
  const chosen = new Map();
  for (const [row, col, ids] of items) {
    const [r, c] = placeOf([row, col], grid);
    chosen.set(`${r},${c}`, [r, c, idsOf(ids, "a block's neighbors")]);
  }
  return [...chosen.values()].sort(([r, c], [s, d]) => inOrder([r, c], [s, d]));
};

/** @param {unknown} value @param {string} name @param {number} high */
const realOf = (value, name, high) => {
  if (typeof value !== "number") throw new Refusal(`${name} must be a number`);
  if (!(value >= 0 && value <= high)) throw new Refusal(`${name} must be from 0 to ${high}, not ${value}`);
  return value;
};

/** How many repaints lie one upon another. @param {any} recipe */
const depthOf = (recipe) => {
  let depth = 0;
  for (let one = recipe; one && depth <= LIMITS.repaints; one = one.init) depth += 1;
  return depth;
};

/**
 * A recipe of values that may come from anywhere; what is left out is as given in `usual`.
 * @param {Record<string, any>} raw
 * @param {Record<string, any>} [usual]
 * @returns {Recipe}
 */
export const checked = (raw, usual = {}) => {
  const { order, grid: side, num_inference_steps: steps, guidance_scale: guidance } =
    { order: "parallel", grid: 4, num_inference_steps: 20, guidance_scale: 1.6, ...usual, ...raw };
  const grid = whole(side, "grid", 1, 4);
  if (!ORDERS.includes(order)) throw new Refusal(`order must be one of ${ORDERS.join(", ")}`);
  if (!GRIDS.includes(grid)) throw new Refusal(`grid must be 1, 2 or 4, not ${grid}`);
  const asked = listOf(raw.blocks, "blocks").map((place) => placeOf(place, grid));
  const places = new Map(asked.map((place) => [String(place), place]));
  const blocks = [...places.values()].sort(inOrder), init = raw.init ?? null;
  if (Boolean(blocks.length) !== Boolean(init)) {
    throw new Refusal("blocks and init belong together: give both or neither");
  }
  if (depthOf(init) > LIMITS.repaints) {
    throw new Refusal(`a picture can be repainted ${LIMITS.repaints} times, one upon another`);
  }
  return {
    bundle: raw.bundle ? String(raw.bundle) : null,
    database: raw.database ? String(raw.database) : null,
    neighbors: idsOf(raw.neighbors, "neighbors"),
    block_neighbors: ownOf(raw.block_neighbors, grid),
    order,
    grid,
    num_inference_steps: whole(steps, "num_inference_steps", 1, LIMITS.steps),
    guidance_scale: realOf(guidance, "guidance_scale", LIMITS.guidance),
    seed: seedOf(raw.seed),
    strength: realOf(raw.strength ?? 1, "strength", LIMITS.strength),
    blocks,
    init: init && checked(init, usual),
  };
};

/** The recipe and all it is painted upon, the first one first. @param {Recipe} recipe @returns {Recipe[]} */
export const layersOf = (recipe) => [...(recipe.init ? layersOf(recipe.init) : []), recipe];

/**
 * JSON as Python writes it into a PNG file; a seed may have more digits than JavaScript's numbers.
 * @param {Recipe} recipe
 */
export const toJson = (recipe) => {
  /** A usual strength is left out. @param {Recipe} one @returns {Record<string, unknown>} */
  const plain = ({ strength, ...one }) => ({
    ...one, ...(strength !== 1 && { strength }), seed: `#${one.seed}#`, init: one.init && plain(one.init),
    block_neighbors: Object.fromEntries(one.block_neighbors.map(([row, col, ids]) => [`${row},${col}`, ids])),
  });
  const sorted = (/** @type {string} */ _, /** @type {any} */ value) =>
    (value && typeof value === "object" && !Array.isArray(value)
      ? Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1))) : value);
  return JSON.stringify(plain(recipe), sorted).replace(/"#(\d+)#"/g, "$1");
};

/** What `toJson` or Python wrote. @param {string} text @param {Record<string, any>} [usual] */
export const fromJson = (text, usual) =>
  checked(JSON.parse(text.replace(/("seed"\s*:\s*)(\d+)/g, '$1"$2"')), usual);
