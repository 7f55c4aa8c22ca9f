// Four verbs on one bundle, computed here: retrieve, embed, paint, inspect. The page asks a worker
// for them (`remote.js`), so that nothing it draws waits for a network.
import { Rows, get, readIndex } from "./files.js";
import { attempts, best, candidates } from "./adapters.js";
import { Networks } from "./networks.js";
import { normal } from "./noise.js";
import { paint } from "./painting.js";
import { nearest, randomItem, rowsOf, vectorOf, cosine, MOST } from "./search.js";

/**
 * @typedef {import("./painting.js").PaintStep} PaintStep
 * @typedef {import("./painting.js").Plan} Plan
 * @typedef {import("./adapters.js").Adapter} Adapter
 * @typedef {import("./recipe.js").Recipe} Recipe
 * @typedef {{
 *   name: string, bundle: string, image_size: number, defaults: Record<string, any>, most: number,
 *   parameters: Record<string, number>, version: string, files: Record<string, number>,
 *   shape: import("./painting.js").Shape, encoder: {name: string, label: string},
 *   database: {key: string, label: string, count: number, classes: string[]},
 * }} Facts
 * @typedef {{item?: number, pixels?: Float32Array, seed?: bigint}} Query
 */

export class Engine {
  /** @param {string} base @param {Facts} facts @param {Networks} networks
   * @param {import("./search.js").Index} index @param {Rows} rows @param {Int16Array} classes */
  constructor(base, facts, networks, index, rows, classes) {
    this.base = base;
    this.facts = facts;
    this.networks = networks;
    this.index = index;
    this.rows = rows;
    this.classes = classes;
  }

  /**
   * @param {string} base address of the exported folder
   * @param {{adapter?: Adapter | null, progress?: import("./networks.js").Progress}} [how]
   *   the adapter that was best the last time
   */
  static async open(base, { adapter = null, progress = () => {} } = {}) {
    const facts = /** @type {Facts} */ (await (await get(`${base}facts.json`)).json());
    const networks = new Networks(base, facts.files), { key } = facts.database;
    const there = await candidates(adapter, facts.version);
    const [index, rows, classes] = await Promise.all([
      get(`${base}database/index.faiss`).then((answer) => answer.arrayBuffer()).then(readIndex),
      Rows.open(`${base}database/latents.safetensors`),
      get(`${base}thumbs/${key}/classes.bin`).then((answer) => answer.arrayBuffer()),
      networks.load(there, progress),
    ]);
    await networks.use(there.length > 1 ? await best(there, attempts(networks, facts)) : there[0]);
    // the largest first: the others then fit where its making took memory
    const guide = facts.shape.flow_map ? [] : ["blind"];
    await networks.prepare([`step${facts.defaults.grid}`, ...guide, "neighbors", "decoder"]);
    return new Engine(base, facts, networks, index, rows, new Int16Array(classes));
  }

  // ---- retrieve, embed -------------------------------------------------------------------------

  /** @param {number} item @returns {string | null} */
  labelOf(item) {
    return this.facts.database.classes[this.classes[item]] ?? null;
  }

  /** The vector and the latent of a picture. @param {Float32Array} pixels (3, H, W) in [-1, 1] */
  async embed(pixels) {
    const { image_size: side, shape: { channels, size } } = this.facts;
    const picture = { data: pixels, dims: [1, 3, side, side] };
    const { latents } = await this.networks.run("encoder", { pixels: picture });
    const latent = { data: latents, dims: [1, channels, size, size] };
    const { vector } = await this.networks.run("embed", { pixels: picture, latents: latent });
    return { vector, latents };
  }

  /**
   * Neighbors of a query, those that are pinned first.
   * @param {Query} query
   * @param {{k: number, label?: string | null, pinned?: number[]}} how
   */
  async retrieve(query, { k, label = null, pinned = [] }) {
    const number = label === null ? -1 : this.facts.database.classes.indexOf(label);
    const member = label === null ? undefined : (/** @type {number} */ item) => this.classes[item] === number;
    const item = query.pixels ? undefined : query.item ?? randomItem(this.index, query.seed ?? 0n, member);
    const vector = query.pixels ? (await this.embed(query.pixels)).vector : vectorOf(this.index, item ?? 0);
    const found = nearest(this.index, vector, k, (one) => one !== item && (member?.(one) ?? true));
    const ids = [...new Set([...pinned, ...found.map(({ id }) => id)])].slice(0, MOST);
    if (!ids.length && item !== undefined) ids.push(item); // an only picture is its own neighbor
    return { item, hits: this.rowsNear(vector, ids, pinned) };
  }

  /** @param {Float32Array} vector @param {number[]} ids @param {number[]} [pinned] */
  rowsNear(vector, ids, pinned = []) {
    const scores = new Map(ids.map((id) => [id, cosine(vector, vectorOf(this.index, id))]));
    return rowsOf(this.index, ids, scores, pinned, (id) => this.labelOf(id));
  }

  // ---- paint, inspect --------------------------------------------------------------------------

  /** @param {Recipe} recipe @param {Float32Array | null} init latent of the picture that is repainted
   * @returns {Promise<{plan: Plan, ids: number[]}>} */
  async plan(recipe, init) {
    const { shape } = this.facts, { channels, size } = shape;
    const ids = [...allNeighbors(recipe)].sort((a, b) => a - b); // as Python has them
    const latents = await this.rows.take(ids);
    const features = await this.networks.run("neighbors",
      { latents: { data: latents, dims: [1, ids.length, channels, size, size] } });
    const dims = this.dimsOf(ids.length, features);
    const own = new Map(recipe.block_neighbors.map(([row, col, some]) => [row * recipe.grid + col, some]));
    const visible = Uint8Array.from({ length: recipe.grid ** 2 * ids.length }, (_, at) => {
      const listened = own.get(Math.floor(at / ids.length)) ?? recipe.neighbors;
      return Number(listened.includes(ids[at % ids.length]));
    });
    return { ids, plan: {
      shape, visible, init, count: ids.length, noise: normal(recipe.seed, channels * size * size),
      features: Object.fromEntries(Object.entries(features).map(([name, data]) => [name, { data, dims: dims[name] }])),
      scale: recipe.guidance_scale, steps: recipe.num_inference_steps, order: recipe.order,
      grid: recipe.grid, blocks: recipe.blocks,
    } };
  }

  /** Shapes of the encoded neighbors, see `NeighborFeatures`.
   * @param {number} k @param {Record<string, Float32Array>} features
   * @returns {Record<string, number[]>} */
  dimsOf(k, { aligned, tokens, canvas }) {
    const half = this.facts.shape.size / 2, quarter = half / 2;
    const layers = this.facts.shape.listeners;
    return {
      aligned: [1, half, half, k, aligned.length / (half * half * k)],
      tokens: [1, quarter, quarter, k, tokens.length / (quarter * quarter * k)],
      canvas: [1, layers, quarter * quarter, k, canvas.length / (layers * quarter * quarter * k)],
    };
  }

  /**
   * Paints a recipe, what it is painted upon first; yields as `paint` does, with the columns of
   * the attention in the order of the recipe's neighbors.
   * @param {Recipe} recipe
   * @param {Float32Array | null} [init] latent of the picture beneath, where it is at hand
   * @returns {AsyncGenerator<PaintStep & {neighbors: number[]}>}
   */
  async* paint(recipe, init = null) {
    const { plan, ids } = await this.plan(recipe, init ?? await this.beneath(recipe));
    const neighbors = [...allNeighbors(recipe)], columns = neighbors.map((id) => ids.indexOf(id));
    const cells = (plan.shape.size / 2) ** 2;
    for await (const step of paint((name, inputs) => this.networks.run(name, inputs), plan)) {
      const attention = new Float32Array(step.attention.length);
      columns.forEach((from, to) =>
        attention.set(step.attention.subarray(from * cells, (from + 1) * cells), to * cells));
      yield { ...step, neighbors, attention };
    }
  }

  /** @param {Recipe} recipe @returns {Promise<Float32Array | null>} */
  async beneath({ init }) {
    if (!init) return null;
    let latent = null;
    for await (const { estimate } of this.paint(init)) latent = estimate;
    return latent;
  }

  /** RGBA pixels of a latent. @param {Float32Array} latents @returns {Promise<Uint8ClampedArray>} */
  async decode(latents) {
    const { image_size: side, shape: { channels, size } } = this.facts;
    const { pixels } = await this.networks.run("decoder",
      { latents: { data: latents, dims: [1, channels, size, size] } });
    const rgba = new Uint8ClampedArray(4 * side * side).fill(255), area = side * side;
    pixels.forEach((value, at) => {
      rgba[4 * (at % area) + Math.floor(at / area)] = roundHalfEven((value + 1) * 127.5);
    });
    return rgba;
  }

  /** What runs where. */
  inspect() {
    return { facts: this.facts, adapter: this.networks.adapter };
  }
}

/** Every neighbor that any block uses. @param {Recipe} recipe @returns {Set<number>} */
export const allNeighbors = ({ neighbors, block_neighbors: own }) =>
  new Set([...neighbors, ...own.flatMap(([, , ids]) => ids)]);

/** As torch rounds. @param {number} value */
const roundHalfEven = (value) => {
  const low = Math.floor(value);
  return value - low === 0.5 ? low + (low % 2) : Math.round(value);
};
