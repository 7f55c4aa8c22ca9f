// Files of a picture, made in the tab: its film, its contact sheet, its numbers, its program; and
// what can be measured of it. For the server's page `rissole/app/share.py` and `explain.py` do it.
import { E } from "../../app/web/shared/events.js";
import { tell } from "../../app/web/shared/store.js";
import { fill, thumb } from "../../app/web/shared/values.js";
import { gifOf } from "./gif.js";
import { decode } from "./links.js";
import { addressOf, pixelsOf, pngOf, scaled, toCanvas } from "./pictures.js";
import { checked, layersOf, Refusal, toJson } from "./recipe.js";
import { asPython, fileOfRun, perBlock } from "./runs.js";
import { GivenUp, Job, mark } from "./session.js";

/**
 * @typedef {import("./recipe.js").Recipe} Recipe
 * @typedef {import("./remote.js").Shown} Shown
 */

const MOST_FRAMES = 48;
const [PLAYED, HELD, FRAME] = [4000, 1600, 256]; // ms of the film, of its last picture; pixels of a side
const OFTEN = 250; // ms between two reports of how far a file is

/** Numbers of up to `most` of `total` steps, evenly spread, the last included.
 * @param {number} total @param {number} most */
const sampled = (total, most) => {
  const count = Math.min(total, most);
  return Array.from({ length: count }, (_, n) => Math.round(((n + 1) * total) / count));
};

/**
 * @param {import("./session.js").Page & {save: (blob: Blob, name: string) => void}} page
 * @param {import("./session.js").Session} visit
 * @param {(recipe: Recipe) => string} homeOf key of the database that a recipe can be painted from
 */
export const savingOf = ({ engine, facts, texts, give, save }, visit, homeOf) => {
  let filing = new Job(engine), measuring = new Job(engine); // the last ones

  /** Groups of steps that a recipe takes. @param {Recipe} recipe */
  const stepsOf = ({ order, grid, blocks, num_inference_steps: steps }) =>
    steps * (order === "sequential" ? blocks.length || grid * grid : 1);

  /** @param {string} job */
  const reporter = (job) => {
    let last = 0;
    return (/** @type {number} */ done) => {
      if (performance.now() - last < OFTEN) return;
      last = performance.now();
      give("share", { job, done });
    };
  };

  /** @param {Recipe} recipe */
  const film = async (recipe) => {
    const job = filing;
    const layers = layersOf(recipe), report = reporter("film");
    const each = Math.max(1, Math.floor(MOST_FRAMES / layers.length));
    /** @type {Uint8ClampedArray[]} */
    const frames = [];
    let init = null;
    for (const [place, layer] of layers.entries()) {
      const total = stepsOf(layer);
      let seen = 0;
      const steps = await job.paint(layer, init, homeOf(layer), sampled(total, each), ({ rgba }) => {
        if (rgba) frames.push(scaled(rgba, FRAME));
        report((place + (seen += 1) / total) / layers.length);
      });
      init = /** @type {Shown} */ (steps.at(-1)).estimate;
    }
    const usual = Math.max(40, PLAYED / Math.max(1, frames.length - 1));
    save(gifOf(frames, frames.map((_, n) => (n === frames.length - 1 ? HELD : usual))), `rissole-${recipe.seed}.gif`);
  };

  /** @param {Recipe} recipe */
  const sheet = async (recipe) => {
    const { blockSheet } = await import("./sheet.js");
    const known = visit.kept.find((one) => toJson(one.recipe) === toJson(recipe));
    let found = known;
    if (!found) {
      const last = /** @type {Shown} */ ((await filing.paint(recipe, null, homeOf(recipe), [])).at(-1));
      found = /** @type {any} */ ({ ids: last.neighbors, attention: last.attention, rgba: last.rgba });
    }
    const { ids, attention, rgba } = /** @type {NonNullable<typeof known>} */ (found), source = homeOf(recipe);
    const pictures = new Map(await Promise.all(ids.map(async (id) => {
      const answer = await fetch(thumb(source, id));
      return /** @type {[number, ImageBitmap]} */ ([id, await createImageBitmap(await answer.blob())]);
    })));
    const shares = perBlock(attention, ids.length, recipe.grid);
    const { seed, order, num_inference_steps: steps } = recipe;
    const title = fill(texts.share.sheetTitle, { seed, order, steps });
    const blob = await blockSheet(toCanvas(rgba), { ids, shares, grid: recipe.grid }, pictures, title);
    save(await pngOf(blob, toJson(recipe)), `rissole-${recipe.seed}-blocks.png`);
  };

  /** @param {Recipe} recipe @param {string} kind */
  const run = async (recipe, kind) => {
    const total = stepsOf(recipe), report = reporter(kind);
    let seen = 0;
    const steps = await filing.paint(recipe, null, homeOf(recipe), [], () => report((seen += 1) / total));
    const { item, pixels, text } = visit.query;
    const ids = /** @type {Shown} */ (steps.at(-1)).neighbors;
    const scores = await engine.call("similarity", { item, pixels, text }, ids, homeOf(recipe));
    save(fileOfRun(kind, recipe, steps, scores), `rissole-${recipe.seed}.${kind}`);
  };

  /** Does something with the recipe of a link, and says on the shelf that it is done.
   * @param {(recipe: Recipe, detail: any) => Promise<unknown>} work */
  const filed = (work) => async (/** @type {any} */ detail) => {
    filing = new Job(engine);
    try {
      const { recipe } = decode(detail.link, facts.defaults);
      homeOf(recipe);
      const told = await work(recipe, detail);
      give("share", told ?? { job: null, file: null, mark: mark() });
    } catch (error) {
      if (error instanceof GivenUp) return;
      tell(E.UNFILED);
      give("problem", error instanceof Error ? error.message : String(error));
    }
  };

  // ---- what can be measured ----------------------------------------------------------------------

  /** Latents as colors. @param {Float32Array | null} latents */
  const latentPicture = async (latents) => {
    if (!latents) return null;
    const { channels, size } = facts.shape, area = size * size;
    const rgba = new Uint8ClampedArray(4 * area).fill(255);
    for (let c = 0; c < 3; c++) {
      const values = latents.subarray((c % channels) * area, (c % channels + 1) * area);
      const sorted = Float32Array.from(values).sort();
      const at = (/** @type {number} */ part) => {
        const place = part * (area - 1), low = Math.floor(place);
        return sorted[low] + (place - low) * ((sorted[low + 1] ?? sorted[low]) - sorted[low]);
      };
      const [low, high] = [at(0.02), at(0.98)];
      const scale = 255 / Math.max(high - low, 1e-6);
      values.forEach((value, n) => { rgba[4 * n + c] = Math.round((value - low) * scale); });
    }
    return addressOf(rgba, true);
  };

  /** @param {{run: string | null}} asked */
  const look = async ({ run: shown }) => {
    const { item, pixels } = visit.query, made = shown ? visit.kept[visit.placeOf(shown)] ?? visit.kept.at(-1) : null;
    const query = await engine.call("latentOf", { item, pixels }, visit.source);
    const nearest = made && await engine.call("nearestTo", pixelsOf(made.rgba), visit.source);
    const photo = made && await engine.call("photoNear", made.latent);
    give("explain",
      { encoded: await latentPicture(query), made: await latentPicture(made?.latent ?? null), nearest, photo });
  };

  /** Mean change of a block, in levels of 255. @type {(a: Uint8ClampedArray, b: Uint8ClampedArray, grid: number,
   *   row: number, col: number) => number} */
  const change = (a, b, grid, row, col) => {
    const width = Math.sqrt(a.length / 4), side = width / grid;
    let sum = 0;
    for (let y = row * side; y < (row + 1) * side; y++) {
      for (let x = col * side; x < (col + 1) * side; x++) {
        for (let c = 0; c < 3; c++) sum += Math.abs(a[4 * (y * width + x) + c] - b[4 * (y * width + x) + c]);
      }
    }
    return sum / (3 * side * side);
  };

  /** What each neighbor did to a block: the picture is painted again without it.
   * @param {{run: string, row: number, col: number}} asked */
  const influence = async ({ run: shown, row, col }) => {
    const picture = visit.kept[visit.placeOf(shown)] ?? visit.kept.at(-1);
    if (!picture) throw new Refusal(texts.errors.repaint);
    measuring.stop(); // one block at a time
    const job = measuring = new Job(engine);
    const told = { run: picture.message.run, at: `${row},${col}` };
    const layer = /** @type {Recipe} */ (layersOf(picture.recipe).findLast(({ blocks }) =>
      !blocks.length || blocks.some(([r, c]) => r === row && c === col)));
    const others = layer.block_neighbors.filter(([r, c]) => r !== row || c !== col);
    const seen = layer.block_neighbors.find(([r, c]) => r === row && c === col)?.[2] ?? layer.neighbors;
    /** @type {Record<string, number>} */
    const levels = {};
    const tellOf = (/** @type {boolean} */ done) =>
      give("explain", { influence: { ...told, levels: { ...levels }, done } });
    const last = async (/** @type {Recipe} */ one, /** @type {Float32Array | null} */ upon) =>
      /** @type {Shown} */ ((await job.paint(one, upon, homeOf(one), [])).at(-1));
    tellOf(false);
    const init = layer.init ? (await last(layer.init, null)).estimate : null;
    const pixels = async (/** @type {Recipe} */ one) => (await last(one, init)).rgba;
    const usual = seen.length > 1 ? await pixels(layer) : null;
    for (const item of usual ? seen : []) {
      const without = checked({ ...layer, block_neighbors: [...others, [row, col, seen.filter((id) => id !== item)]] });
      const changed = change(await pixels(without), /** @type {any} */ (usual), layer.grid, row, col);
      levels[item] = Math.round(10 * changed) / 10;
      tellOf(false);
    }
    tellOf(true);
  };

  /** @param {() => Promise<void>} work */
  const said = async (work) => {
    try {
      await work();
    } catch (error) {
      if (!(error instanceof GivenUp)) give("problem", error instanceof Error ? error.message : String(error));
    }
  };

  return {
    /** @type {Record<string, (detail: any) => Promise<void>>} */
    events: {
      film: filed(film),
      sheet: filed(sheet),
      run: filed((recipe, { kind }) => run(recipe, kind)),
      python: filed(async (recipe) => ({ code: asPython(recipe, facts.name), mark: mark() })),
      quit: async () => filing.stop(),
      look: (detail) => said(() => look(detail)),
      influence: (detail) => said(() => influence(detail)),
    },
  };
};
