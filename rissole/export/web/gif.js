// Animated GIF files, as `rissole/app/animation.py` makes them: every frame with 256 colors of its own.

const COLORS = 256, CELLS = 32768; // five bits of each of red, green and blue
const MOST_CODES = 4096;

/** @param {Uint8ClampedArray} rgba @param {number} at */
const cellOf = (rgba, at) => ((rgba[at] >> 3) << 10) | ((rgba[at + 1] >> 3) << 5) | (rgba[at + 2] >> 3);

/** @typedef {{cells: number[], weight: number, axis: number, spread: number}} Box */

/** @param {number[]} cells @param {Uint32Array} counts @returns {Box} */
const boxOf = (cells, counts) => {
  let [axis, spread] = [0, -1];
  for (const shift of [0, 5, 10]) {
    const levels = cells.map((cell) => (cell >> shift) & 31);
    const width = Math.max(...levels) - Math.min(...levels);
    if (width > spread) [axis, spread] = [shift, width];
  }
  return { cells, axis, spread, weight: cells.reduce((sum, cell) => sum + counts[cell], 0) };
};

/** Two halves of a box with as many pixels each. @param {Box} box @param {Uint32Array} counts */
const halved = ({ cells, axis, weight }, counts) => {
  const sorted = [...cells].sort((a, b) => ((a >> axis) & 31) - ((b >> axis) & 31));
  let [at, sum] = [0, 0];
  while (at < sorted.length - 1 && sum < weight / 2) sum += counts[sorted[at++]];
  return [sorted.slice(0, at), sorted.slice(at)].map((half) => boxOf(half, counts));
};

/** Colors by median cut, and the color of each cell. @param {Uint8ClampedArray} rgba */
const paletteOf = (rgba) => {
  const counts = new Uint32Array(CELLS), sums = new Float64Array(3 * CELLS);
  for (let at = 0; at < rgba.length; at += 4) {
    const cell = cellOf(rgba, at);
    counts[cell] += 1;
    for (let c = 0; c < 3; c++) sums[3 * cell + c] += rgba[at + c];
  }
  const there = Array.from(counts.keys()).filter((cell) => counts[cell]);
  let boxes = [boxOf(there, counts)];
  while (boxes.length < COLORS) {
    const wide = boxes.filter(({ cells }) => cells.length > 1);
    if (!wide.length) break;
    const next = wide.reduce((best, box) => (box.weight * box.spread > best.weight * best.spread ? box : best));
    boxes = [...boxes.filter((box) => box !== next), ...halved(next, counts)];
  }
  const palette = new Uint8Array(3 * COLORS), nearest = new Uint8Array(CELLS);
  boxes.forEach(({ cells, weight }, color) => {
    for (let c = 0; c < 3; c++) {
      palette[3 * color + c] = Math.round(cells.reduce((sum, cell) => sum + sums[3 * cell + c], 0) / weight);
    }
    for (const cell of cells) nearest[cell] = color;
  });
  return { palette, nearest };
};

/** Numbers below 256 by the compression of GIF, in blocks of up to 255 bytes. @param {Uint8Array} numbers */
const compressed = (numbers) => {
  const [clear, end] = [COLORS, COLORS + 1], bytes = [];
  let [bits, held, size] = [0, 0, 9];
  /** @type {Map<number, number>} */
  let known = new Map(); // number of a sequence and its next number -> number of the longer one
  let next = end + 1;
  const put = (/** @type {number} */ code) => {
    held |= code << bits;
    for (bits += size; bits >= 8; bits -= 8, held >>>= 8) bytes.push(held & 255);
  };
  put(clear);
  let sequence = numbers[0];
  for (const number of numbers.subarray(1)) {
    const longer = known.get(sequence * COLORS + number);
    if (longer !== undefined) {
      sequence = longer;
      continue;
    }
    put(sequence);
    if (next < MOST_CODES) {
      known.set(sequence * COLORS + number, next);
      if (next === 1 << size) size += 1;
      next += 1;
    } else {
      put(clear);
      [known, next, size] = [new Map(), end + 1, 9];
    }
    sequence = number;
  }
  put(sequence);
  if (next === 1 << size && next < MOST_CODES) size += 1; // as if another one had been noted
  put(end);
  if (bits) bytes.push(held & 255);
  const blocks = [];
  for (let at = 0; at < bytes.length; at += 255) {
    const part = bytes.slice(at, at + 255);
    blocks.push(Uint8Array.of(part.length, ...part));
  }
  return [...blocks, Uint8Array.of(0)];
};

/** @param {number} value */
const short = (value) => [value & 255, value >> 8];

/**
 * An animated picture that runs for ever.
 * @param {Uint8ClampedArray[]} frames RGBA pixels of squares of one size
 * @param {number[]} durations of each frame, in milliseconds
 */
export const gifOf = (frames, durations) => {
  const side = Math.sqrt(frames[0].length / 4), size = [...short(side), ...short(side)];
  const head = [...new TextEncoder().encode("GIF89a"), ...size, 0x70, 0, 0,
    0x21, 0xff, 11, ...new TextEncoder().encode("NETSCAPE2.0"), 3, 1, 0, 0, 0];
  const parts = frames.flatMap((rgba, at) => {
    const { palette, nearest } = paletteOf(rgba);
    const numbers = Uint8Array.from({ length: rgba.length / 4 }, (_, n) => nearest[cellOf(rgba, 4 * n)]);
    const control = [0x21, 0xf9, 4, 4, ...short(Math.round(durations[at] / 10)), 0, 0];
    return [Uint8Array.from([...control, 0x2c, 0, 0, 0, 0, ...size, 0x87]), palette, Uint8Array.of(8),
      ...compressed(numbers)];
  });
  return new Blob([Uint8Array.from(head), ...parts, Uint8Array.of(0x3b)], { type: "image/gif" });
};
