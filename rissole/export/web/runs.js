// A painting with all that happened on the way, to keep: the files of `rissole/runs.py`.
import { crc32 } from "./links.js";
import { layersOf, toJson } from "./recipe.js";

/**
 * @typedef {import("./recipe.js").Recipe} Recipe
 * @typedef {import("./painting.js").PaintStep & {neighbors: number[]}} Step
 * @typedef {{kind: string, shape: number[], data: Float64Array | Float32Array | BigInt64Array}} Array_
 */

/**
 * Mean shares of the blocks, (rows, cols, k), that sum to 1 where a block heard anybody.
 * @param {Float32Array} attention (k, cells, cells) @param {number} k @param {number} grid
 */
export const perBlock = (attention, k, grid) => {
  const area = attention.length / k, cells = Math.sqrt(area), side = cells / grid;
  return Array.from({ length: grid * grid }, (_, block) => {
    const [row, col] = [Math.floor(block / grid), block % grid];
    const sums = Array.from({ length: k }, (_unused, n) => {
      let sum = 0;
      for (let y = row * side; y < (row + 1) * side; y++) {
        for (let x = col * side; x < (col + 1) * side; x++) sum += attention[n * area + y * cells + x];
      }
      return sum;
    });
    const all = Math.max(sums.reduce((a, b) => a + b, 0), 1e-12);
    return sums.map((sum) => sum / all);
  });
};

/** @param {Float32Array[]} parts */
const joined = (parts) => {
  const all = new Float32Array(parts.length * parts[0].length);
  parts.forEach((part, n) => all.set(part, n * part.length));
  return all;
};

/**
 * @param {Recipe} recipe @param {Step[]} steps @param {(number | null)[]} scores of the neighbors
 * @returns {Record<string, Array_>}
 */
const arraysOf = (recipe, steps, scores) => {
  const last = /** @type {Step} */ (steps.at(-1)), { neighbors } = last, k = neighbors.length, { grid } = recipe;
  const [count, latents] = [steps.length, steps[0].estimate.length], cells = Math.sqrt(last.attention.length / k);
  const channels = latents / (4 * cells * cells), size = 2 * cells; // two of a latent make a cell
  const whole = (/** @type {number[]} */ numbers, /** @type {number[]} */ shape) =>
    ({ kind: "<i8", shape, data: BigInt64Array.from(numbers, BigInt) });
  const real = (/** @type {Float32Array} */ data, /** @type {number[]} */ shape) => ({ kind: "<f4", shape, data });
  return {
    neighbors: whole(neighbors, [k]),
    // cosines are from -1 on
    scores: { kind: "<f8", shape: [k], data: Float64Array.from(scores, (score) => score ?? -2) },
    positions: whole(steps.flatMap(({ position }) => position ?? [-1, -1]), [count, 2]),
    latents: real(joined(steps.map(({ estimate }) => estimate)), [count, channels, size, size]),
    attention: real(joined(steps.map(({ attention }) => attention)), [count, k, cells, cells]),
    shares: real(Float32Array.from(perBlock(last.attention, k, grid).flat()), [grid, grid, k]),
    network_calls: whole(steps.map(({ calls }) => calls), [count]),
  };
};

// ---- NumPy's files -------------------------------------------------------------------------------

/** @param {string} kind of its numbers @param {number[]} shape @param {Uint8Array} bytes */
const npy = (kind, shape, bytes) => {
  const said = `{'descr': '${kind}', 'fortran_order': False, 'shape': (${shape.map((one) => `${one},`).join(" ")}), }`;
  const head = `${said.padEnd(64 * Math.ceil((said.length + 11) / 64) - 11)}\n`;
  const length = [head.length & 255, head.length >> 8];
  const start = Uint8Array.from([0x93, ...new TextEncoder().encode("NUMPY"), 1, 0, ...length]);
  return joinedBytes([start, new TextEncoder().encode(head), bytes]);
};

/** @param {Uint8Array[]} parts */
const joinedBytes = (parts) => {
  const all = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
};

/** Little-endian numbers of 2 and 4 bytes. @param {[number, 2 | 4][]} numbers */
const packed = (numbers) => Uint8Array.from(numbers.flatMap(([value, size]) =>
  Array.from({ length: size }, (_, n) => (value >>> (8 * n)) & 255)));

/** An archive of files as they are. @param {Record<string, Uint8Array>} files */
const zip = (files) => {
  /** @type {Uint8Array[]} */
  const parts = [], list = [];
  let at = 0;
  for (const [title, bytes] of Object.entries(files)) {
    const name = new TextEncoder().encode(title), [crc, size] = [crc32(bytes), bytes.length];
    /** @type {[number, 2 | 4][]} */
    const facts = [[20, 2], [0, 2], [0, 2], [0, 2], [0x21, 2], [crc, 4], [size, 4], [size, 4],
      [name.length, 2], [0, 2]];
    const head = packed([[0x04034b50, 4], ...facts]);
    parts.push(head, name, bytes);
    list.push(packed([[0x02014b50, 4], [20, 2], ...facts, [0, 2], [0, 2], [0, 2], [0, 4], [at, 4]]), name);
    at += head.length + name.length + size;
  }
  const count = Object.keys(files).length, length = list.reduce((sum, one) => sum + one.length, 0);
  const end = packed([[0x06054b50, 4], [0, 2], [0, 2], [count, 2], [count, 2], [length, 4], [at, 4], [0, 2]]);
  return joinedBytes([...parts, ...list, end]);
};

/** A text as NumPy keeps one: four bytes for each letter. @param {string} text */
const letters = (text) => {
  const points = Uint32Array.from(text, (letter) => letter.codePointAt(0) ?? 0);
  return npy(`<U${points.length}`, [], new Uint8Array(points.buffer));
};

// ---- JSON, a table, a program --------------------------------------------------------------------

/** @param {ArrayLike<number | bigint>} data @param {number[]} shape @returns {any} */
const nested = (data, shape) => {
  if (shape.length < 2) return Array.from(data, Number);
  const [count, ...rest] = shape, size = data.length / count;
  return Array.from({ length: count }, (_, n) =>
    nested(Array.prototype.slice.call(data, n * size, (n + 1) * size), rest));
};

/** @type {(recipe: Recipe, steps: Step[], scores: (number | null)[]) => string} */
const tableOf = (recipe, steps, scores) => {
  const { attention, neighbors } = /** @type {Step} */ (steps.at(-1));
  const lines = perBlock(attention, neighbors.length, recipe.grid).flatMap((shares, block) =>
    neighbors.map((id, n) => [Math.floor(block / recipe.grid) + 1, (block % recipe.grid) + 1, id,
      shares[n].toFixed(6), scores[n]?.toFixed(6) ?? ""].join(",")));
  return `${["row,column,neighbor,share,similarity", ...lines].join("\n")}\n`;
};

/**
 * The file of a painting: "npz" and "json" hold every step, "csv" the shares of the last.
 * @param {string} kind @param {Recipe} recipe @param {Step[]} steps @param {(number | null)[]} scores
 */
export const fileOfRun = (kind, recipe, steps, scores) => {
  if (kind === "csv") return new Blob([tableOf(recipe, steps, scores)], { type: "text/csv" });
  const arrays = Object.entries(arraysOf(recipe, steps, scores));
  if (kind === "json") {
    const lists = arrays.map(([name, { data, shape }]) => `"${name}": ${JSON.stringify(nested(data, shape))}`);
    return new Blob([`{"recipe": ${toJson(recipe)}, ${lists.join(", ")}}`], { type: "application/json" });
  }
  const files = arrays.map(([name, { kind: of, shape, data }]) =>
    [`${name}.npy`, npy(of, shape, new Uint8Array(data.buffer, data.byteOffset, data.byteLength))]);
  return new Blob([zip({ "recipe.npy": letters(toJson(recipe)), ...Object.fromEntries(files) })],
    { type: "application/octet-stream" });
};

/** As Python writes a value. @param {unknown} value @returns {string} */
const spelled = (value) => {
  if (Array.isArray(value)) return `[${value.map(spelled).join(", ")}]`;
  if (typeof value === "string") return `'${value}'`;
  if (value && typeof value === "object") {
    return `{${Object.entries(value).map(([name, one]) => `'${name}': ${spelled(one)}`).join(", ")}}`;
  }
  return String(value);
};

/** @param {number} value */
const float = (value) => (Number.isInteger(value) ? value.toFixed(1)
  : value < 1e-4 ? value.toExponential().replace(/e-(\d)$/, "e-0$1") : String(value));

/**
 * A program that paints a recipe again; see `as_python` in `rissole/runs.py`.
 * @param {Recipe} recipe @param {string} bundle
 */
export const asPython = (recipe, bundle) => {
  const layers = layersOf(recipe).flatMap((layer, number) => {
    const own = Object.fromEntries(layer.block_neighbors.map(([row, col, ids]) => [`${row},${col}`, ids]));
    const given = [
      ["bundle", layer.bundle && spelled(layer.bundle)], ["database", layer.database && spelled(layer.database)],
      ["neighbors", spelled(layer.neighbors)], ["block_neighbors", layer.block_neighbors.length && spelled(own)],
      ["order", spelled(layer.order)], ["grid", layer.grid], ["num_inference_steps", layer.num_inference_steps],
      ["guidance_scale", float(layer.guidance_scale)], ["seed", layer.seed],
      ["blocks", layer.blocks.length && spelled(layer.blocks)], ["init", number && "out"],
    ].filter(([name, value]) => value || name === "seed");
    return ["out = pipe(", ...given.map(([name, value]) => `    ${name}=${value},`), ")"];
  });
  return `${["from rissole import RissolePipeline", "", `pipe = RissolePipeline.from_pretrained('${bundle}')`,
    ...layers, `out.images[0].save("rissole-${recipe.seed}.png")`].join("\n")}\n`;
};
