// What the server's Python does for a visit of the page, done in the tab: it answers the events of
// the components with the same values and messages.
import { E } from "../../app/web/shared/events.js";
import { chosen, ownBlocks } from "../../app/web/shared/state.js";
import { live, state } from "../../app/web/shared/store.js";
import { choosingOf } from "./choosing.js";
import { comparingOf } from "./comparing.js";
import { beneath, merged, messageOf, meterOf } from "./frames.js";
import { decode, encode } from "./links.js";
import { addressOf, pngWith, recipeIn } from "./pictures.js";
import { checked, fromJson, layersOf, Refusal, toJson } from "./recipe.js";
import { savingOf } from "./saving.js";
import { mark, randomSeed, Session } from "./session.js";

/**
 * @typedef {import("./recipe.js").Recipe} Recipe
 * @typedef {import("./frames.js").Picture} Picture
 * @typedef {import("./session.js").Query} Query
 */

const KEPT = 8; // pictures to go back to
const RATE = 1000 / 15; // milliseconds between two previews
// steps, at most, of a picture that follows what is changed: of a network that answers for whole
// steps, and of one that needs many, see `rissole/app/sketches.py`
const [FEW_STEPS, STEPS] = [2, 5];

/** @param {import("./session.js").Page & {save: (blob: Blob, name: string) => void}} page */
export const visitOf = (page) => {
  const { engine, facts, texts, controls, give } = page;
  const visit = new Session(facts), choosing = choosingOf(page, visit);
  const { quietly } = choosing;
  /** @type {{stop: () => void} | null} */
  let painting = null;

  // ---- painting ----------------------------------------------------------------------------------

  /** @param {Record<string, any>} [changes] @returns {Recipe} */
  const wanted = (changes = {}) => {
    const { order, grid, steps, guidance, strength, seed } = controls.read();
    const ids = chosen(state());
    if (!ids.length) throw new Refusal(texts.errors.neighbors);
    const own = changes.block_neighbors ?? ownBlocks(state(), changes.grid ?? grid);
    return checked({ bundle: facts.bundle, database: visit.source, neighbors: ids, order, grid,
      block_neighbors: own, num_inference_steps: steps, guidance_scale: guidance, seed,
      strength: Object.keys(own).length ? strength : 1, ...changes });
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
   * @param {number} [rate] milliseconds between two previews
   * @returns {Promise<Picture | null>}
   */
  const run = async (recipe, before, extra = {}, rate = RATE) => {
    stop();
    const clock = { began: performance.now() }, meter = meterOf(recipe.grid, clock, before?.message.spent);
    // what waits for the model is not painted meanwhile
    engine.call("inspect").then(() => { clock.began = performance.now(); }, () => {});
    const fixed = { run: mark(), seed: String(recipe.seed), error: null, back: null, source: visit.source,
      mine: visit.place.mine, before: before?.message.run ?? null, ...extra };
    /** @type {Promise<void>} */
    let shown = Promise.resolve();
    /** @type {Picture | null} */
    let picture = null;
    let current = true;
    const mine = engine.paint(recipe, before?.latent ?? null, visit.source, rate, (step) => {
      meter.note(step);
      const shares = before && recipe.init ? merged(before, step.neighbors, step.attention, recipe.blocks, recipe.grid)
        : { ids: step.neighbors, attention: step.attention };
      const message = { ...fixed, ...messageOf(step, recipe, shares), spent: [...meter.spent],
        seconds: Math.round((performance.now() - clock.began) / 10) / 100 };
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

  /** @param {Recipe} recipe */
  const linkOf = (recipe) => encode(recipe, visit.query.item ?? null);

  /** @param {Picture} picture @param {Record<string, unknown>} [extra] */
  const finish = async (picture, extra = {}) => {
    const painted = { ...picture, query: visit.query, neighbors: state().neighbors };
    visit.kept = [...visit.kept, painted].slice(-KEPT);
    show({ ...picture.message, kept: visit.kept.length, link: linkOf(picture.recipe),
      frame: await addressOf(picture.rgba, true), ...extra });
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

  /** @param {{blocks: number[][], run?: string}} asked */
  const repaint = async ({ blocks, run: shown }) => {
    visit.kept = visit.kept.slice(0, visit.placeOf(shown) + 1);
    const last = visit.kept.at(-1);
    if (!last) throw new Refusal(texts.errors.repaint);
    const init = { ...beneath(last.recipe, blocks), bundle: facts.bundle, database: visit.source };
    const own = Object.fromEntries(Object.entries(state().neighbors.blocks)
      .filter(([at]) => blocks.some((block) => block.join() === at)));
    await chain(wanted({ grid: last.recipe.grid, blocks, init, block_neighbors: own, seed: randomSeed() }), last);
  };

  /** A picture in few calls that follows what is changed. @param {{wish: Record<string, any>}} asked */
  const sketch = async ({ wish }) => {
    const { number, neighbors, blocks, order, grid, steps, guidance, strength, seed } = wish;
    const told = { wish: number, ...(wish.sketch && { kind: "sketch" }) };
    const drop = () => show({ ...told, state: "dropped", run: mark() });
    if (live()) { // a late wish must not end what the button has asked for since
      drop();
      return;
    }
    try {
      const recipe = checked({ bundle: facts.bundle, database: visit.source, neighbors, block_neighbors: blocks, grid,
        seed, order, guidance_scale: guidance, strength,
        num_inference_steps: wish.sketch ? Math.min(steps, facts.shape.flow_map ? FEW_STEPS : STEPS) : steps });
      const picture = await run(recipe, null, told, Infinity);
      if (!picture) drop();
      else show({ ...picture.message, link: linkOf(recipe), frame: await addressOf(picture.rgba, false) });
    } catch (error) {
      show({ ...told, state: "error", error: error instanceof Error ? error.message : String(error), run: mark() });
    }
  };

  // ---- pictures put back -------------------------------------------------------------------------

  /** @param {Recipe} recipe @param {boolean} [fresh] its settings alone */
  const set = (recipe, fresh = false) => {
    controls.write({ order: recipe.order, grid: recipe.grid, steps: recipe.num_inference_steps,
      guidance: recipe.guidance_scale, strength: recipe.strength, fresh,
      ...(!fresh && { seed: String(recipe.seed) }) });
    controls.tell();
  };

  /** @param {{run: string | null}} asked */
  const back = async ({ run: shown }) => {
    visit.kept = visit.kept.slice(0, visit.placeOf(shown));
    const last = visit.kept.at(-1);
    if (!last) throw new Refusal(texts.errors.back);
    visit.query = last.query;
    set(last.recipe);
    choosing.giveNeighbors(last.neighbors.hits, last.neighbors.blocks);
    show({ ...last.message, back: mark(), kept: visit.kept.length, link: linkOf(last.recipe),
      frame: await addressOf(last.rgba, true) });
  };

  /** Key of the database that a recipe can be painted from. @param {Recipe} recipe */
  const homeOf = (recipe) => {
    const known = [visit.source, visit.photos?.key, visit.first];
    const home = recipe.database === null ? visit.source : known.find((key) => key === recipe.database);
    const { count } = visit.places.get(home ?? "") ?? { count: 0 };
    for (const layer of layersOf(recipe)) {
      if (![null, facts.bundle].includes(layer.bundle)) {
        throw new Refusal(`the recipe was made with other weights (${layer.bundle}, here ${facts.bundle})`);
      }
      if (!home || ![null, home].includes(layer.database)) throw new Refusal(texts.errors.elsewhere);
      const ids = [...layer.neighbors, ...layer.block_neighbors.flatMap(([, , own]) => own)];
      const unknown = ids.find((id) => id >= count);
      if (unknown !== undefined) {
        throw new Refusal(`picture ${unknown} is not in the database, which holds 0 to ${count - 1}`);
      }
    }
    return /** @type {string} */ (home);
  };

  /** @param {Recipe} recipe @param {Query} asked @param {boolean} [fresh] its settings alone */
  const putBack = async (recipe, asked, fresh = false) => {
    const home = homeOf(recipe);
    if (home !== visit.source) {
      choosing.goTo(home);
      if (fresh) show({ state: "idle", run: mark() });
    }
    visit.query = asked;
    give("share", { begun: fresh ? null : mark() });
    set(recipe, fresh);
    const own = Object.fromEntries(recipe.block_neighbors.map(([row, col, ids]) => [`${row},${col}`, ids]));
    const near = async (/** @type {Query} */ query) => {
      const hits = await engine.call("near", choosing.plain(query), recipe.neighbors, visit.source);
      choosing.giveNeighbors(hits, own);
    };
    await near(asked);
    if (fresh) return;
    await chain(recipe);
    const last = visit.kept.at(-1);
    if (asked.item !== undefined || asked.pixels || !last) return;
    visit.query = await choosing.painted(last.rgba); // what they are near to, as far as can be told
    await near(visit.query);
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
    await putBack(fromJson(json, facts.defaults), { ...await choosing.queryOf(file), painted: true });
  };

  /** The picture on show as a file. @returns {Promise<{blob: Blob, name: string} | null>} */
  const file = async () => {
    const last = visit.kept.at(-1);
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

  const { preset, surprise, again, upload, add, describe, known, remember } = choosing;
  const saving = savingOf(page, visit, homeOf), comparing = comparingOf(page, visit, { wanted, linkOf });
  return {
    stop, file, preset, surprise, again, upload, add, describe,
    /** Begins: with the query that the page already shows, or a random one. */
    begin: async () => {
      remember();
      if (!facts.opening) await surprise();
      await known();
    },
    paint: () => safely(() => chain(wanted())),
    restore: (/** @type {Blob} */ blob) => quietly(() => restore(blob), E.UNOPENED),
    /** Events of the components, by what they trigger. @type {Record<string, (detail: any) => Promise<void>>} */
    events: {
      ...choosing.events,
      ...saving.events,
      ...comparing.events,
      repaint: (detail) => safely(() => repaint(detail)),
      back: (detail) => safely(() => back(detail)),
      recall: (detail) => safely(() => recall(detail)),
      sketch,
    },
  };
};
