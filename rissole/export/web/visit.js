// What the server's Python does for a visit of the page, done in the tab: it answers the events of
// the components with the same values and messages.
import { E } from "../../app/web/shared/events.js";
import { state, tell } from "../../app/web/shared/store.js";
import { beneath, merged, messageOf, meterOf } from "./frames.js";
import { decode, encode } from "./links.js";
import { addressOf, pixelsOf, pngWith, recipeIn, squareOf } from "./pictures.js";
import { checked, fromJson, layersOf, Refusal, toJson } from "./recipe.js";

/**
 * @typedef {import("./recipe.js").Recipe} Recipe
 * @typedef {import("./frames.js").Picture} Picture
 * @typedef {import("./engine.js").Facts} Facts
 * @typedef {{
 *   item?: number, pixels?: Float32Array, address?: string, painted?: boolean,
 * }} Query
 * @typedef {{k: number, order: string, grid: number, steps: number, guidance: number, seed: string}} Settings
 */

const KEPT = 8; // pictures to go back to
const RATE = 1000 / 15; // milliseconds between two previews
const SKETCH = 2; // steps of a picture that follows what is changed, where the network needs many

const mark = () => crypto.randomUUID();
export const randomSeed = () => BigInt(crypto.getRandomValues(new Uint32Array(1))[0]);

/**
 * @param {ReturnType<typeof import("./remote.js").remote>} engine
 * @param {Facts} facts
 * @param {Record<string, any>} texts
 * @param {{read: () => Settings, write: (changes: Record<string, unknown>) => void}} controls
 * @param {(name: string, value: unknown) => void} give sets the value of a component
 */
export const visitOf = (engine, facts, texts, controls, give) => {
  const { key, label: about, count, classes } = facts.database;
  /** @type {Query} */
  let query = {};
  /** @type {Picture[]} */
  let kept = [];
  /** @type {string | null} */
  let label = null;
  /** @type {{stop: () => void} | null} */
  let painting = null;

  // ---- the query and its neighbors ---------------------------------------------------------------

  const shownQuery = () => {
    if (query.address) return { image: query.address, painted: Boolean(query.painted) };
    return query.item === undefined ? null : { item: query.item };
  };

  /** @param {object[]} hits @param {Record<string, number[]>} blocks */
  const giveNeighbors = (hits, blocks) =>
    give("neighbors", { query: shownQuery(), hits, blocks, source: key, mine: false });

  /** @param {Query} next @param {number[]} [off] ids that come switched off */
  const search = async (next, off = []) => {
    const { hits: before, blocks } = state().neighbors;
    const asked = next.pixels ? { pixels: next.pixels } : { item: next.item, seed: randomSeed() };
    const pinned = before.filter((hit) => hit.pin).map(({ id }) => id);
    const { item, hits } = await engine.call("retrieve", asked, { k: controls.read().k, label, pinned });
    query = item === undefined ? next : { item };
    const shown = hits.map((/** @type {{id: number}} */ hit) => ({ ...hit, on: !off.includes(hit.id) }));
    giveNeighbors(shown.some((/** @type {{on: boolean}} */ hit) => hit.on) ? shown : hits, blocks);
  };

  /** @param {Blob} file */
  const upload = async (file) => search(await squareOf(file, facts.image_size));

  const remember = () => give("memory", {
    source: key, chosen: key, count, about, fingerprint: key, classes, label,
    databases: [{ key, label: about, count }], encoders: [facts.encoder], encoder: facts.encoder.name,
    own: null, skipped: 0, mark: mark(),
  });

  // ---- painting ----------------------------------------------------------------------------------

  /** @param {Record<string, any>} [changes] @returns {Recipe} */
  const wanted = (changes = {}) => {
    const { order, grid, steps, guidance, seed } = controls.read(), { hits, blocks } = state().neighbors;
    const ids = hits.filter(({ on }) => on).map(({ id }) => id);
    if (!ids.length) throw new Refusal(texts.errors.neighbors);
    const side = changes.grid ?? grid;
    const inside = Object.entries(blocks).filter(([at]) => at.split(",").every((place) => Number(place) < side));
    return checked({ bundle: facts.bundle, database: key, neighbors: ids, order, grid,
      block_neighbors: Object.fromEntries(inside), num_inference_steps: steps, guidance_scale: guidance, seed,
      ...changes });
  };

  /** @param {Record<string, any>} message */
  const show = (message) => give("canvas", message);

  const stop = () => {
    painting?.stop();
    painting = null;
  };

  /**
   * Paints one recipe; null when it was stopped.
   * @param {Recipe} recipe
   * @param {Picture | null} before the picture that it repaints, where it is at hand
   * @param {Record<string, unknown>} [extra] of each message
   * @returns {Promise<Picture | null>}
   */
  const run = async (recipe, before, extra = {}) => {
    stop();
    const began = performance.now(), meter = meterOf(recipe.grid, before?.message.spent);
    const fixed = { run: mark(), seed: String(recipe.seed), error: null, back: null, source: key, mine: false,
      before: before?.message.run ?? null, ...extra };
    /** @type {Promise<void>} */
    let shown = Promise.resolve();
    /** @type {Picture | null} */
    let picture = null;
    let current = true;
    const mine = engine.paint(recipe, before?.latent ?? null, RATE, (step) => {
      meter.note(step);
      const shares = before && recipe.init ? merged(before, step.neighbors, step.attention, recipe.blocks, recipe.grid)
        : { ids: step.neighbors, attention: step.attention };
      const message = { ...fixed, ...messageOf(step, recipe, shares), spent: [...meter.spent],
        seconds: Math.round((performance.now() - began) / 10) / 100 };
      if (step.final) picture = { recipe, message, ...shares, latent: step.estimate, rgba: step.rgba };
      else {
        shown = shown.then(async () => {
          const frame = await addressOf(step.rgba, false);
          if (current) show({ ...message, frame });
        });
      }
    });
    painting = { stop: () => { current = false; mine.stop(); } };
    const whole = await mine.whole;
    await shown;
    return whole && current ? picture : null;
  };

  /** @param {Picture} picture @param {Record<string, unknown>} [extra] */
  const finish = async (picture, extra = {}) => {
    kept = [...kept, picture].slice(-KEPT);
    const link = encode(picture.recipe, query.item ?? null);
    show({ ...picture.message, kept: kept.length, link, frame: await addressOf(picture.rgba, true), ...extra });
  };

  /** A recipe with all it is painted upon. @param {Recipe} recipe @param {Picture | null} [upon] */
  const chain = async (recipe, upon = null) => {
    let before = upon;
    for (const layer of upon ? [recipe] : layersOf(recipe)) {
      const picture = await run(layer, before);
      if (!picture) return;
      await finish(picture, layer === recipe ? {} : { state: "running" });
      before = picture;
    }
  };

  /** Place of the picture on show among those kept. @param {string | null | undefined} shown */
  const placeOf = (shown) => {
    const at = kept.findIndex(({ message }) => message.run === shown);
    return at < 0 ? kept.length : at;
  };

  const paint = async () => {
    const recipe = wanted();
    await chain(recipe);
  };

  /** @param {{blocks: number[][], run?: string}} asked */
  const repaint = async ({ blocks, run: shown }) => {
    kept = kept.slice(0, placeOf(shown) + 1);
    const last = kept.at(-1);
    if (!last) throw new Refusal(texts.errors.repaint);
    const init = { ...beneath(last.recipe, blocks), bundle: facts.bundle, database: key };
    const own = Object.fromEntries(Object.entries(state().neighbors.blocks)
      .filter(([at]) => blocks.some((block) => block.join() === at)));
    await chain(wanted({ grid: last.recipe.grid, blocks, init, block_neighbors: own, seed: randomSeed() }), last);
  };

  /** @param {{run: string | null}} asked */
  const back = async ({ run: shown }) => {
    kept = kept.slice(0, placeOf(shown));
    const last = kept.at(-1);
    if (!last) throw new Refusal(texts.errors.back);
    show({ ...last.message, back: mark(), kept: kept.length, link: encode(last.recipe, query.item ?? null),
      frame: await addressOf(last.rgba, true) });
  };

  /** A picture in few calls that follows what is changed. @param {{wish: Record<string, any>}} asked */
  const sketch = async ({ wish }) => {
    const { number, neighbors, blocks, order, grid, steps, guidance, seed } = wish;
    const few = facts.shape.flow_map ? Math.min(SKETCH, steps) : Math.min(2 * SKETCH, steps);
    const recipe = checked({ bundle: facts.bundle, database: key, neighbors, block_neighbors: blocks, grid, seed,
      order: order === "sequential" ? "parallel" : order, guidance_scale: guidance,
      num_inference_steps: wish.sketch ? few : steps });
    const picture = await run(recipe, null, { wish: number, ...(wish.sketch && { kind: "sketch" }) });
    if (picture) show({ ...picture.message, frame: await addressOf(picture.rgba, true) });
    else show({ state: "dropped", wish: number, run: mark() });
  };

  // ---- pictures put back -------------------------------------------------------------------------

  /** @param {Recipe} recipe */
  const refuseOthers = (recipe) => {
    for (const layer of layersOf(recipe)) {
      if (![null, key].includes(layer.database)) throw new Refusal(texts.errors.elsewhere);
      if (![null, facts.bundle].includes(layer.bundle)) {
        throw new Refusal(`the recipe was made with other weights (${layer.bundle}, here ${facts.bundle})`);
      }
      const ids = [...layer.neighbors, ...layer.block_neighbors.flatMap(([, , own]) => own)];
      const unknown = ids.find((id) => id >= count);
      if (unknown !== undefined) {
        throw new Refusal(`picture ${unknown} is not in the database, which holds 0 to ${count - 1}`);
      }
    }
  };

  /** @param {Recipe} recipe @param {Query} asked @param {boolean} [fresh] its settings alone */
  const putBack = async (recipe, asked, fresh = false) => {
    refuseOthers(recipe);
    query = asked;
    give("share", { begun: fresh ? null : mark() });
    controls.write({ order: recipe.order, grid: recipe.grid, steps: recipe.num_inference_steps,
      guidance: recipe.guidance_scale, ...(!fresh && { seed: String(recipe.seed) }), fresh });
    const near = asked.pixels ? { pixels: asked.pixels } : { item: asked.item ?? recipe.neighbors[0] };
    const hits = await engine.call("near", near, recipe.neighbors);
    const own = recipe.block_neighbors.map(([row, col, ids]) => [`${row},${col}`, ids]);
    giveNeighbors(hits, Object.fromEntries(own));
    if (fresh) return;
    await chain(recipe);
    const last = kept.at(-1);
    if (asked.item !== undefined || asked.pixels || !last) return;
    query = { pixels: pixelsOf(last.rgba), address: await addressOf(last.rgba, true), painted: true };
    giveNeighbors(await engine.call("near", { pixels: query.pixels }, recipe.neighbors), Object.fromEntries(own));
  };

  /** @param {{link: string, fresh?: boolean}} asked */
  const recall = async ({ link, fresh }) => {
    const { recipe, item } = decode(link, facts.defaults);
    await putBack(recipe, item === null ? {} : { item }, Boolean(fresh));
  };

  /** @param {Blob} file */
  const restore = async (file) => {
    const json = await recipeIn(file);
    if (json === null) throw new Refusal(texts.errors.recipe);
    await putBack(fromJson(json, facts.defaults), { ...await squareOf(file, facts.image_size), painted: true });
  };

  /** The picture on show as a file. @returns {Promise<{blob: Blob, name: string} | null>} */
  const file = async () => {
    const last = kept.at(-1);
    if (!last) return null;
    return { blob: await pngWith(last.rgba, toJson(last.recipe)), name: `rissole-${last.recipe.seed}.png` };
  };

  /** Does something, and says on the canvas why it failed. @param {() => Promise<void>} work */
  const safely = async (work) => {
    try {
      await work();
    } catch (error) {
      show({ state: "error", error: error instanceof Error ? error.message : String(error), run: mark() });
    }
  };

  /** Does something about the query. @param {() => Promise<void>} work @param {string} refused an event */
  const quietly = async (work, refused) => {
    try {
      await work();
    } catch (error) {
      tell(refused);
      give("problem", error instanceof Error ? error.message : String(error));
    }
  };

  const off = () => state().neighbors.hits.filter((hit) => !hit.on).map(({ id }) => id);
  return {
    remember,
    stop,
    file,
    paint: () => safely(paint),
    surprise: () => quietly(() => search({}), E.UNMOVED),
    again: () => quietly(() => search(query, off()), E.UNMOVED),
    upload: (/** @type {Blob} */ blob) => quietly(() => upload(blob), E.UNREAD),
    restore: (/** @type {Blob} */ blob) => quietly(() => restore(blob), E.UNOPENED),
    /** Events of the components, by what they trigger. @type {Record<string, (detail: any) => Promise<void>>} */
    events: {
      pick: ({ item }) => quietly(() => search({ item }), E.UNMOVED),
      more: ({ run: shown }) => quietly(async () => {
        const picture = kept[placeOf(shown)] ?? kept.at(-1);
        if (!picture) throw new Refusal(texts.errors.back);
        await search({ pixels: pixelsOf(picture.rgba), address: await addressOf(picture.rgba, true), painted: true });
      }, E.UNMOVED),
      sift: ({ label: name }) => quietly(async () => {
        label = name;
        await search({});
        remember();
      }, E.UNMOVED),
      repaint: (detail) => safely(() => repaint(detail)),
      back: (detail) => safely(() => back(detail)),
      sketch: (detail) => safely(() => sketch(detail)),
      recall: (detail) => safely(() => recall(detail)),
    },
  };
};
