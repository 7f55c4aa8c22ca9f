// Links that hold a recipe, as `rissole/app/links.py` writes and reads them.
import { checked, layersOf, LIMITS, ORDERS, Refusal } from "./recipe.js";

/** @typedef {import("./recipe.js").Recipe} Recipe */

const DAMAGED = "the link is damaged, or not one of this app";
const LONGEST = 6000; // characters
const CHECK = "c", OWN = ["b", "d", "q", "p"];
const SEVERAL = ["block_neighbors", "blocks"]; // fields that a picture may have more than once
const NUMBERS = /^\d{1,20}(\.\d{1,20})*$/;
/** @type {Record<string, string>} */
const LETTERS = { n: "neighbors", o: "order", g: "grid", t: "num_inference_steps", w: "guidance_scale",
  s: "seed", x: "block_neighbors", r: "blocks", f: "strength" };

const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let rest = byte;
  for (let bit = 0; bit < 8; bit++) rest = rest & 1 ? (rest >>> 1) ^ 0xedb88320 : rest >>> 1;
  return rest;
});

/** @param {Uint8Array} bytes */
export const crc32 = (bytes) => {
  let rest = 0xffffffff;
  for (const byte of bytes) rest = (rest >>> 8) ^ TABLE[(rest ^ byte) & 255];
  return (rest ^ 0xffffffff) >>> 0;
};

/** CRC32 in eight letters from a to p. @param {string} text */
const checksum = (text) => crc32(new TextEncoder().encode(text)).toString(16).padStart(8, "0")
  .replace(/./g, (digit) => String.fromCharCode(97 + parseInt(digit, 16)));

/** @param {number} value as Python writes a float */
const spelled = (value) => (value !== 0 && Math.abs(value) < 1e-4
  ? value.toExponential().replace(/e-(\d)$/, "e-0$1") : String(value));

/** @param {Recipe} recipe */
const layer = (recipe) => [
  `n${recipe.neighbors.join(".")}`,
  ...recipe.block_neighbors.map(([row, col, ids]) => `x${[row, col, ...ids].join(".")}`),
  `o${recipe.order[0]}`, `g${recipe.grid}`, `t${recipe.num_inference_steps}`,
  `w${spelled(recipe.guidance_scale)}`, `s${recipe.seed}`,
  ...(recipe.strength === 1 ? [] : [`f${spelled(recipe.strength)}`]),
  ...recipe.blocks.map((place) => `r${place.join(".")}`),
].join("~");

/** A recipe as a query string. @param {Recipe} recipe @param {number | null} [item] the query */
export const encode = (recipe, item = null) => {
  const origin = Object.entries({ b: recipe.bundle, d: recipe.database, q: item })
    .filter(([, value]) => value !== null);
  const start = origin.map(([name, value]) => `${name}=${value}&`).join("");
  const layers = layersOf(recipe).map(layer);
  const field = `p=${CHECK}${checksum(`${start}p=${layers.join("&p=")}`)}~`;
  return start + layers.map((text) => field + text).join("&");
};

/** @param {unknown} link @returns {[string, string][]} */
const pairsOf = (link) => {
  if (typeof link !== "string" || link.length > LONGEST) throw new Refusal(DAMAGED);
  const query = link.slice(link.lastIndexOf("?") + 1).split("#")[0];
  return [...new URLSearchParams(query)].filter(([, value]) => value !== "");
};

/** Without the checksums, which must be right where there are any. @param {[string, string][]} pairs */
const intact = (pairs) => {
  const own = pairs.filter(([name]) => OWN.includes(name)), found = new Set();
  for (const pair of own.filter(([name, value]) => name === "p" && value.startsWith(CHECK))) {
    const [field, ...rest] = pair[1].split("~");
    found.add(field);
    pair[1] = rest.join("~");
  }
  const right = CHECK + checksum(own.map(([name, value]) => `${name}=${value}`).join("&"));
  if ([...found].some((field) => field !== right)) throw new Refusal(`${DAMAGED}: its checksum is wrong`);
  return own;
};

/** @param {string} text */
const numbers = (text) => {
  if (!NUMBERS.test(text)) throw new Refusal(DAMAGED);
  return text.split(".").map(Number);
};

/** @param {string} text */
const real = (text) => {
  if (!/^[\d.e-]+$/.test(text)) throw new Refusal(DAMAGED);
  return Number(text);
};

/** @type {Record<string, (text: string) => unknown>} */
const READERS = {
  order: (text) => ORDERS.find((order) => order[0] === text) ?? text,
  guidance_scale: real,
  strength: real,
  seed: (text) => { if (!NUMBERS.test(text)) throw new Refusal(DAMAGED); return text.split(".")[0]; },
  neighbors: numbers,
};

/** @param {string} text */
const settings = (text) => {
  /** @type {Record<string, any>} */
  const found = { block_neighbors: [], blocks: [] };
  for (const field of text.split("~")) {
    const name = LETTERS[field[0]], value = field.slice(1);
    // a damaged checksum can look like a field
    if (!name || (name in found && !SEVERAL.includes(name))) throw new Refusal(DAMAGED);
    if (name === "blocks") found.blocks.push(numbers(value));
    else if (name === "block_neighbors") {
      const [row, col, ...ids] = numbers(value);
      found.block_neighbors.push([row, col, ids]);
    } else found[name] = READERS[name]?.(value) ?? numbers(value)[0];
  }
  return found;
};

/**
 * The recipe of a link, and the picture it names as the query.
 * @param {unknown} link @param {Record<string, any>} [usual] settings that it may leave out
 * @returns {{recipe: Recipe, item: number | null}}
 */
export const decode = (link, usual = {}) => {
  const pairs = intact(pairsOf(link)), named = new Map(pairs);
  const texts = pairs.filter(([name]) => name === "p").map(([, value]) => value);
  if (!texts.length || texts.length > LIMITS.repaints + 1) throw new Refusal(DAMAGED);
  const origin = { bundle: named.get("b"), database: named.get("d") };
  /** @type {Recipe | null} */
  let recipe = null;
  for (const text of texts) recipe = checked({ ...origin, ...settings(text), ...(recipe && { init: recipe }) }, usual);
  const query = named.get("q") ?? "";
  return { recipe: /** @type {Recipe} */ (recipe), item: /^\d{1,15}$/.test(query) ? Number(query) : null };
};
