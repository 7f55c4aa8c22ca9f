// Four verbs on one bundle, computed here: retrieve, embed, paint, inspect. The page asks a worker
// for them (`remote.js`), so that nothing it draws waits for a network.
import { extended, own as ownDatabase, shipped } from "./databases.js";
import { Rows, get, readIndex } from "./files.js";
import { attempts, best, candidates } from "./adapters.js";
import { Networks } from "./networks.js";
import { normal } from "./noise.js";
import { paint } from "./painting.js";
import { forgetPhotos, keepPhotos, readPhotos } from "./photos.js";
import { squareOf } from "./pictures.js";
import { cosine, MOST, nearest, randomItem, rowsOf, typical, usualNearness } from "./search.js";
import { photoOf } from "./training_photos.js";
import { namedClasses } from "./words.js";

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
 *   card: Record<string, string>, presets: Preset[],
 *   training_photos: import("./training_photos.js").Shape | null,
 *   opening: {address: string, item: number, seed: number, hits: import("../../app/web/types").Hit[]} | null,
 * }} Facts
 * @typedef {{name: string, seed: number, order: string, k: number | null}} Preset
 * @typedef {import("./databases.js").Database} Database
 * @typedef {import("./photos.js").Photo} Photo
 * @typedef {{item?: number, pixels?: Float32Array, text?: string, seed?: bigint}} Query
 * @typedef {{key: string, count: number, pictures: Blob[], skipped: string[], kept: boolean}} OwnPhotos
 */

export class Engine {
  /** @param {Facts} facts @param {Networks} networks @param {Database} first @param {string} base */
  constructor(facts, networks, first, base) {
    this.base = base; // address of the exported folder
    this.facts = facts;
    this.networks = networks;
    /** @type {Map<string, Database>} */
    this.databases = new Map([[first.key, first]]);
    /** Photos on their way into a database, by words that stand for them. @type {Map<string, Photo>} */
    this.encoded = new Map();
    /** @type {import("./files.js").Parts | null} */
    this.latents = null; // the file of the exported database
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
    const engine = new Engine(facts, networks, shipped(facts.database, index, rows, new Int16Array(classes)), base);
    engine.latents = rows.file;
    return engine;
  }

  /** Gives the service worker what has come, so that it need not come a second time; see `sw.js`. */
  async keep() {
    const { networks: { base, loaded }, latents, facts: { version, files } } = this;
    const cache = await caches.open(`rissole ${base} ${version}`);
    const whole = latents?.whole ? [[latents.address, latents.whole]] : [];
    for (const [address, coming] of [...[...loaded].map(([name, file]) => [`${base}${name}`, file]), ...whole]) {
      const file = /** @type {Blob} */ (await coming), name = String(address).slice(base.length);
      if (file.size === files[name]) await cache.put(String(address), new Response(file));
    }
  }

  // ---- retrieve, embed -------------------------------------------------------------------------

  /** @param {string | null} [key] the exported database where none is named @returns {Database} */
  database(key) {
    const found = this.databases.get(key ?? this.facts.database.key);
    if (!found) throw new Error("those pictures are not here any more");
    return found;
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

  /** Whether an item counts: of one class, of those that words name, or any.
   * @param {Database} database @param {string[] | null} names */
  static member(database, names) {
    const numbers = names?.map((name) => database.names.indexOf(name));
    return numbers && ((/** @type {number} */ item) => numbers.includes(database.classOf(item)));
  }

  /** What a query is compared by; null for none. @param {Query} query @param {Database} database */
  async vectorOf({ item, pixels, text }, database) {
    if (pixels) return (await this.embed(pixels)).vector;
    if (text !== undefined) {
      const member = Engine.member(database, namedClasses(text, database.names));
      return member ? typical(database, member) : null;
    }
    return item === undefined ? null : database.vector(item);
  }

  /**
   * Neighbors of a query, those that are pinned first.
   * @param {Query} query a random picture where it names nothing
   * @param {{source?: string, k: number, label?: string | null, pinned?: number[]}} how
   */
  async retrieve(query, { source, k, label = null, pinned = [] }) {
    const database = this.database(source), asked = query.text !== undefined;
    const member = Engine.member(database, asked ? namedClasses(query.text ?? "", database.names)
      : label === null ? null : [label]);
    const item = asked || query.pixels ? undefined : query.item ?? randomItem(database, query.seed ?? 0n, member);
    const vector = /** @type {Float32Array} */ (await this.vectorOf({ ...query, item }, database));
    const found = nearest(database, vector, k, (one) => one !== item && (member?.(one) ?? true));
    const ids = [...new Set([...pinned, ...found.map(({ id }) => id)])].slice(0, MOST);
    if (!ids.length && item !== undefined) ids.push(item); // an only picture is its own neighbor
    return { item, hits: await this.rows(database, vector, ids, pinned) };
  }

  /** What the page shows of neighbors that are known.
   * @param {Query} query @param {number[]} ids @param {string} source */
  async near(query, ids, source) {
    const database = this.database(source);
    return this.rows(database, await this.vectorOf(query, database), ids);
  }

  /** How near items are to a query, see `Retriever.similarity`; null for none.
   * @param {Query} query @param {number[]} ids @param {string} source */
  async similarity(query, ids, source) {
    const database = this.database(source), vector = await this.vectorOf(query, database);
    return ids.map((id) => vector && cosine(vector, database.vector(id)));
  }

  /** The picture that another one is nearest to, and how near they are to each other; null for too few.
   * @param {Float32Array} pixels @param {string} source */
  async nearestTo(pixels, source) {
    const database = this.database(source), rounded = (/** @type {number} */ one) => Math.round(100 * one) / 100;
    if (database.count < 2) return null;
    const [{ id, score }] = nearest(database, (await this.embed(pixels)).vector, 1, () => true);
    return { item: id, alike: rounded(score), usual: rounded(usualNearness(database)) };
  }

  /** How near a picture is to the photos that the network was trained on; null where nobody knows.
   * @param {Float32Array} latent */
  async photoNear(latent) {
    const { training_photos: photos, shape } = this.facts;
    return photos && photoOf(this.base, photos, latent, shape);
  }

  /** @param {Database} database @param {Float32Array | null} vector @param {number[]} ids @param {number[]} [pinned] */
  rows(database, vector, ids, pinned = []) {
    return rowsOf(database, vector, ids, pinned, this.facts.shape.channels);
  }

  /** Latents of a query; null where it has none. @param {Query} query @param {string} source */
  async latentOf({ item, pixels }, source) {
    if (pixels) return (await this.embed(pixels)).latents;
    return item === undefined ? null : this.database(source).take([item]);
  }

  // ---- pictures of a visitor's own ---------------------------------------------------------------

  /** Reads a photo for a database that is made afterwards.
   * @param {Blob} file @returns {Promise<string>} a word that stands for it */
  async photo(file) {
    const { pixels, picture } = await squareOf(file, this.facts.image_size);
    const { vector, latents } = await this.embed(pixels), word = `photo-${this.encoded.size}`;
    this.encoded.set(word, { vector, latents, picture });
    return word;
  }

  /** Makes a database of photos that were read, and keeps it in this browser.
   * @param {string[]} words @param {string[]} skipped files that are not in it, and why
   * @returns {Promise<OwnPhotos>} */
  async photos(words, skipped) {
    const photos = words.flatMap((word) => this.encoded.get(word) ?? []);
    this.encoded.clear();
    const kept = await keepPhotos({ bundle: this.facts.bundle, photos, skipped });
    return { ...this.lookAt(photos), skipped, kept };
  }

  /** Photos of an earlier visit. @returns {Promise<OwnPhotos | null>} */
  async known() {
    const kept = await readPhotos(this.facts.bundle);
    return kept && { ...this.lookAt(kept.photos), skipped: kept.skipped, kept: true };
  }

  /** @param {Photo[]} photos */
  lookAt(photos) {
    const database = ownDatabase(photos);
    this.databases.set(database.key, database);
    return { key: database.key, count: database.count, pictures: photos.map(({ picture }) => picture) };
  }

  /** Removes a visitor's photos. @param {string} key */
  async forget(key) {
    this.databases.delete(key);
    await forgetPhotos(this.facts.bundle);
  }

  /**
   * One picture behind those of a database, for neighbors from elsewhere.
   * @param {string} source @param {Blob} file @param {Query} query what it is compared with
   */
  async extend(source, file, query) {
    const first = this.database(source), { pixels, picture } = await squareOf(file, this.facts.image_size);
    const database = extended(first, ownDatabase([await this.embed(pixels)]));
    this.databases.set(database.key, database);
    const [hit] = await this.near(query, [first.count], database.key);
    return { key: database.key, count: database.count, hit, picture };
  }

  // ---- paint, inspect --------------------------------------------------------------------------

  /** @param {Recipe} recipe @param {Float32Array | null} init latent of the picture that is repainted
   * @param {string | null} source @returns {Promise<{plan: Plan, ids: number[]}>} */
  async plan(recipe, init, source) {
    const { shape } = this.facts, { channels, size } = shape;
    const ids = [...allNeighbors(recipe)].sort((a, b) => a - b); // as Python has them
    const latents = await this.database(source).take(ids);
    const features = await this.networks.run("neighbors",
      { latents: { data: latents, dims: [1, ids.length, channels, size, size] } });
    const dims = this.dimsOf(ids.length, features);
    const own = new Map(recipe.block_neighbors.map(([row, col, some]) => [row * recipe.grid + col, some]));
    const seen = (/** @type {Map<number, number[]>} */ of) =>
      Uint8Array.from({ length: recipe.grid ** 2 * ids.length }, (_, at) => {
        const listened = of.get(Math.floor(at / ids.length)) ?? recipe.neighbors;
        return Number(listened.includes(ids[at % ids.length]));
      });
    const usual = seen(new Map()), visible = recipe.strength ? seen(own) : usual;
    return { ids, plan: {
      shape, visible, usual, follow: recipe.strength, init, count: ids.length,
      noise: normal(recipe.seed, channels * size * size),
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
   * @param {string | null} [source] of its neighbors; a recipe that names no database is one for any
   * @returns {AsyncGenerator<PaintStep & {neighbors: number[]}>}
   */
  async* paint(recipe, init = null, source = recipe.database) {
    const { plan, ids } = await this.plan(recipe, init ?? await this.beneath(recipe, source), source);
    const neighbors = [...allNeighbors(recipe)], columns = neighbors.map((id) => ids.indexOf(id));
    const cells = (plan.shape.size / 2) ** 2;
    for await (const step of paint((name, inputs) => this.networks.run(name, inputs), plan)) {
      const attention = new Float32Array(step.attention.length);
      columns.forEach((from, to) =>
        attention.set(step.attention.subarray(from * cells, (from + 1) * cells), to * cells));
      yield { ...step, neighbors, attention };
    }
  }

  /** @param {Recipe} recipe @param {string | null} source @returns {Promise<Float32Array | null>} */
  async beneath({ init }, source) {
    if (!init) return null;
    let latent = null;
    for await (const { estimate } of this.paint(init, null, source)) latent = estimate;
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
