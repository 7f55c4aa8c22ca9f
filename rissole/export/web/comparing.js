// Pictures side by side, painted in the tab: what `rissole/app/compare.py` and `variants.py` do for the
// server's page.
import { borders, seamRatio } from "../../app/web/canvas/maps.js";
import { E } from "../../app/web/shared/events.js";
import { state, tell } from "../../app/web/shared/store.js";
import { fill } from "../../app/web/shared/values.js";
import { addressOf, pngOf, toCanvas } from "./pictures.js";
import { checked, ORDERS, Refusal, toJson } from "./recipe.js";
import { GivenUp, Job, mark } from "./session.js";

/**
 * @typedef {import("./recipe.js").Recipe} Recipe
 * @typedef {import("./remote.js").Shown} Shown
 * @typedef {{setting: string, values: any[]}} Axis
 * @typedef {{recipe: Recipe, rgba: Uint8ClampedArray, seconds: number, calls: number, seam: number | null}} Result
 */

/** @type {Record<string, keyof Recipe>} */
const SETTINGS = { k: "neighbors", guidance: "guidance_scale", steps: "num_inference_steps", order: "order",
  grid: "grid", seed: "seed" };
const MOST_VALUES = 6; // of one axis
const MOST = 16; // neighbors
const OFTEN = 200; // ms between two reports
const QUOTED = 40; // characters of what a visitor wrote

/** @type {(setting: string, text: string) => any} */
const typed = (setting, text) => {
  if (setting === "order") {
    const found = ORDERS.filter((order) => order.startsWith(text.toLowerCase()));
    if (found.length === 1) return found[0];
    throw new Refusal(`order must be one of ${ORDERS.join(", ")}, not ${text.slice(0, QUOTED)}`);
  }
  if (setting === "guidance" ? /^[+-]?(\d+\.?\d*|\.\d+)$/.test(text) : /^[+-]?\d+$/.test(text)) {
    return setting === "seed" ? BigInt(text) : Number(text);
  }
  const kind = setting === "guidance" ? "numbers" : "whole numbers", hint = setting === "grid" ? " (1, 2, 4)" : "";
  throw new Refusal(`${setting} takes ${kind}${hint}, not ${text.slice(0, QUOTED)}`);
};

/** Reads values separated by commas. @param {any} given @returns {Axis} */
export const axisOf = (given) => {
  const setting = String(given?.setting ?? "");
  if (!Object.hasOwn(SETTINGS, setting)) {
    throw new Refusal(`a setting to compare is one of ${Object.keys(SETTINGS).join(", ")}`);
  }
  const parts = String(given.values ?? "").split(",").map((part) => part.trim()).filter(Boolean);
  const values = parts.map((part) => typed(setting, part));
  if (!values.length || values.length > MOST_VALUES || new Set(values).size < values.length) {
    throw new Refusal(`${setting}: give 1 to ${MOST_VALUES} different values, with commas`);
  }
  return { setting, values };
};

/** @type {(recipe: Recipe, setting: string, value: any, pool: number[]) => Recipe} */
const changed = (recipe, setting, value, pool) => {
  if (setting === "k" && !(value >= 1 && value <= pool.length)) {
    throw new Refusal(`k must be from 1 to ${Math.min(pool.length, MOST)}, not ${value}`);
  }
  const own = setting === "grid" && value !== recipe.grid ? { block_neighbors: [] } : {};
  return checked({ ...recipe, ...own, [SETTINGS[setting]]: setting === "k" ? pool.slice(0, value) : value });
};

/**
 * A recipe for every pair of values: rows follow `y`, columns `x`.
 * @param {Recipe} base @param {Axis} x @param {Axis} y @param {number[]} pool neighbors to count from
 */
export const cross = (base, x, y, pool) => {
  if (x.setting === y.setting) throw new Refusal("choose two different settings to compare");
  return y.values.map((row) => x.values.map((column) =>
    changed(changed(base, y.setting, row, pool), x.setting, column, pool)));
};

/** The same query and seed in four ways, see `variants`. @param {Recipe} base @returns {Record<string, Recipe>} */
const variants = (base) => ({
  published: { ...base, order: "independent" },
  alone: { ...base, order: "parallel", guidance_scale: 0 },
  sequential: { ...base, order: "sequential" },
  parallel: { ...base, order: "parallel" },
});

/**
 * @param {import("./session.js").Page & {save: (blob: Blob, name: string) => void}} page
 * @param {import("./session.js").Session} visit
 * @param {{wanted: () => Recipe, linkOf: (recipe: Recipe) => string}} how what the page is set to paint
 */
export const comparingOf = ({ engine, texts, give, save }, visit, { wanted, linkOf }) => {
  const said = texts.compare;
  let job = new Job(engine); // the last one

  /** @param {Axis} axis */
  const labelsOf = ({ setting, values }) => values.map((value) =>
    (setting === "order" ? texts.settings.orders[value] : `${said.settings[setting]} ${value}`));

  /** Neighbors to count from: those that are on, then what else the query finds. */
  const poolOf = async () => {
    const { hits } = state().neighbors, { item, pixels, text } = visit.query;
    const off = hits.filter(({ on }) => !on).map(({ id }) => id);
    const more = await engine.call("retrieve", { item, pixels, text },
      { source: visit.source, k: MOST, label: visit.label });
    const found = more.hits.map((/** @type {{id: number}} */ hit) => hit.id)
      .filter((/** @type {number} */ id) => !off.includes(id));
    return [...new Set([...hits.filter(({ on }) => on).map(({ id }) => id), ...found])].slice(0, MOST);
  };

  /** @param {Result} result */
  const noteOf = ({ seam, seconds, calls }) => fill(seam === null ? said.noteWhole : said.note,
    { calls, seconds: seconds.toFixed(1), seam: seam?.toFixed(2) });

  /** @type {(recipe: Recipe, tick: (step: Shown) => void) => Promise<Result>} */
  const painted = async (recipe, tick) => {
    const began = performance.now(), steps = await job.paint(recipe, null, visit.source, [], tick);
    const { rgba, calls } = /** @type {Shown} */ (steps.at(-1)), { grid } = recipe, side = Math.sqrt(rgba.length / 4);
    const pixels = new ImageData(new Uint8ClampedArray(rgba), side, side);
    const seam = grid > 1 && side >= 8 * grid ? seamRatio(borders(pixels, grid)) : null;
    return { recipe, rgba, calls, seam, seconds: (performance.now() - began) / 1000 };
  };

  /** @type {(results: Result[], columns: string[], rows: string[]) => Promise<void>} */
  const keep = async (results, columns, rows) => {
    const { labeledGrid } = await import("./sheet.js"), [{ recipe }] = results;
    const cells = results.map((result) => ({ picture: toCanvas(result.rgba), note: noteOf(result) }));
    const blob = await labeledGrid(cells, columns, rows, fill(said.sheetTitle, { seed: recipe.seed }));
    save(await pngOf(blob, toJson(recipe)), `rissole-${recipe.seed}-compare.png`);
  };

  /** @type {(table: Recipe[][], columns: string[], rows: string[], kind: string) => Promise<void>} */
  const compare = async (table, columns, rows, kind) => {
    const recipes = table.flat(), source = visit.source;
    /** @type {Result[]} */
    const results = [];
    /** @type {Record<string, any>} */
    let message = { run: mark(), state: "running", error: null, kind, columns, rows, count: recipes.length, at: 0,
      done: 0, cells: [], mine: visit.place.mine, file: () => keep(results, columns, rows) };
    const show = (/** @type {Record<string, any>} */ changes) => {
      message = { ...message, ...changes };
      give("compare", message);
    };
    show({});
    let told = 0;
    job = new Job(engine);
    for (const [at, recipe] of recipes.entries()) {
      if (source !== visit.source) return; // another database was chosen
      const result = await painted(recipe, ({ index, step, steps, blocks }) => {
        if (performance.now() - told < OFTEN) return;
        told = performance.now();
        show({ at, done: (index - 1 + step / steps) / blocks });
      });
      results.push(result);
      const { seconds, calls, seam } = result, src = await addressOf(result.rgba, false);
      show({ at, done: 1, state: results.length === recipes.length ? "done" : "running",
        cells: [...message.cells, { src, seconds, calls, seam, link: linkOf(recipe) }] });
    }
  };

  /** @param {() => Promise<void>} work */
  const safely = async (work) => {
    try {
      await work();
    } catch (error) {
      if (error instanceof GivenUp) return;
      tell(E.UNCOMPARED);
      give("problem", error instanceof Error ? error.message : String(error));
    }
  };

  return {
    /** @type {Record<string, (detail: any) => Promise<void>>} */
    events: {
      ways: () => safely(() => {
        const recipes = variants(wanted()), names = Object.keys(recipes);
        return compare([Object.values(recipes)], names.map((name) => said.ways[name]), [""], "ways");
      }),
      cross: (detail) => safely(async () => {
        const base = wanted(), [x, y] = [axisOf(detail.x), axisOf(detail.y)];
        await compare(cross(base, x, y, await poolOf()), labelsOf(x), labelsOf(y), "cross");
      }),
      halt: async () => job.stop(),
    },
  };
};
