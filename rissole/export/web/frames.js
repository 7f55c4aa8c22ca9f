// What the canvas is told of a painting, and how a repaint joins the picture beneath: the messages of
// `rissole/app/frames.py` and the pictures of `rissole/app/state.py`.

/**
 * @typedef {import("./recipe.js").Recipe} Recipe
 * @typedef {import("./remote.js").Shown} Shown
 * @typedef {[number, number, number] | null} Spent
 * @typedef {{
 *   recipe: Recipe, message: Record<string, any>, ids: number[], attention: Float32Array,
 *   latent: Float32Array, rgba: Uint8ClampedArray,
 * }} Picture
 */

/** @param {boolean[]} mask */
const bits = (mask) => mask.map(Number).join("");

/** @param {Uint8Array} bytes */
export const base64 = (bytes) => btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));

/** Shares as bytes, 0 only for those that are 0. @param {Float32Array} attention */
export const levels = (attention) => Uint8Array.from(attention, (share) => {
  const level = Math.round(Math.min(1, Math.max(0, share || 0)) * 255);
  return share > 0 ? Math.max(1, level) : level;
});

/**
 * The shares of repainted blocks among those of the picture they were in.
 * @param {{ids: number[], attention: Float32Array}} before
 * @param {number[]} ids neighbors of the repaint
 * @param {Float32Array} attention (ids, cells, cells), of which only `blocks` count
 * @param {number[][]} blocks
 * @param {number} grid
 */
export const merged = (before, ids, attention, blocks, grid) => {
  const every = [...new Set([...before.ids, ...ids])];
  const area = attention.length / ids.length, cells = Math.sqrt(area), side = cells / grid;
  const painted = new Set(blocks.map(([row, col]) => row * grid + col));
  const isNew = (/** @type {number} */ at) =>
    painted.has(Math.floor(Math.floor(at / cells) / side) * grid + Math.floor((at % cells) / side));
  const maps = every.map((id) => {
    const [old, now] = [before.ids.indexOf(id), ids.indexOf(id)];
    return Float32Array.from({ length: area }, (_, at) => (isNew(at)
      ? (now < 0 ? 0 : attention[now * area + at]) : (old < 0 ? 0 : before.attention[old * area + at])));
  });
  const heard = every.map((id, n) => ({ id, map: maps[n] })).filter(({ map }) => map.some((share) => share !== 0));
  const shares = new Float32Array(heard.length * area);
  heard.forEach(({ map }, n) => shares.set(map, n * area));
  return { ids: heard.map(({ id }) => id), attention: shares };
};

/**
 * What to repaint blocks on: the picture, or the one before where it changed only those.
 * @param {Recipe} recipe @param {number[][]} blocks
 */
export const beneath = (recipe, blocks) => {
  const chosen = new Set(blocks.map(String));
  return recipe.init && recipe.blocks.every((block) => chosen.has(String(block))) ? recipe.init : recipe;
};

/** Counts what each block costs: [calls, milliseconds, blocks that share them].
 * @param {number} grid @param {{began: number}} clock when painting began, by `performance.now()`
 * @param {Spent[]} [before] */
export const meterOf = (grid, clock, before) => {
  /** @type {Spent[]} */
  const spent = before ? [...before] : Array.from({ length: grid * grid }, () => null);
  let index = 0, calls = 0, began = 0, seen = 0;
  return {
    spent,
    /** @param {Shown} step */
    note: (step) => {
      if (step.index !== index) [index, calls, began] = [step.index, seen, index ? performance.now() : clock.began];
      seen = step.calls;
      const count = step.active.filter(Boolean).length;
      step.active.forEach((active, at) => {
        if (active) spent[at] = [step.calls - calls, Math.round(performance.now() - began), count];
      });
    },
  };
};

/**
 * The message of one step, but for the picture itself.
 * @param {Shown} step @param {Recipe} recipe
 * @param {{ids: number[], attention: Float32Array}} shares
 */
export const messageOf = (step, recipe, { ids, attention }) => ({
  state: step.final ? "done" : "running",
  grid: recipe.grid,
  repaint: recipe.blocks.length ? recipe.blocks : null,
  used: recipe.neighbors,
  own: Object.fromEntries(recipe.block_neighbors.map(([row, col, own]) => [`${row},${col}`, own])),
  ids,
  position: step.position,
  index: step.index,
  num_blocks: step.blocks,
  step: step.step,
  total_steps: step.steps,
  calls: step.calls,
  done: bits(step.done),
  active: bits(step.active),
  cells: ids.length ? Math.sqrt(attention.length / ids.length) : 1,
  attention: base64(levels(attention)),
});
