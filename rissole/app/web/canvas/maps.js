// What the inspection draws, as functions of pictures and numbers: who was listened to, and seams.

/** @typedef {import("../types").Message} Message */
/** @typedef {{n: number, id: number, share: number}} Heard */
/** @typedef {CanvasRenderingContext2D | OffscreenCanvasRenderingContext2D} Pen */

// sixteen that are told apart in light and dark; each also has a number, for eyes that cannot
const COLORS = [
  "#e4572e", "#2e86ab", "#f2b134", "#4f8f3a", "#8e5bb5", "#1fa89a", "#d64f8a", "#8a5a35",
  "#4c6ef5", "#b5c334", "#b03a5b", "#38bdf8", "#ffb4a2", "#14532d", "#a45ee5", "#7b858c",
];
/** @param {number} n */
export const color = (n) => COLORS[n % COLORS.length];
/** @param {number} n */
const rgb = (n) => [1, 3, 5].map((at) => parseInt(color(n).slice(at, at + 2), 16));
/**
 * What can be read on a color.
 * @param {number} n
 */
export const ink = (n) => {
  const [r, g, b] = rgb(n);
  return 0.299 * r + 0.587 * g + 0.114 * b > 140 ? "#1b1410" : "#ffffff";
};

/**
 * The attention of a message: one byte for each neighbor and cell.
 * @param {Pick<Message, "attention" | "cells" | "grid" | "ids">} message
 */
export const attention = ({ attention: text, cells, grid, ids }) => {
  const bytes = atob(text);
  /** @type {(n: number, y: number, x: number) => number} */
  const at = (n, y, x) => bytes.charCodeAt((n * cells + y) * cells + x) || 0;

  /** @type {(row: number, col: number) => number[]} */
  const sums = (row, col) => {
    const side = cells / grid;
    return ids.map((_, n) => {
      let sum = 0;
      for (let y = row * side; y < (row + 1) * side; y += 1) {
        for (let x = col * side; x < (col + 1) * side; x += 1) sum += at(n, y, x);
      }
      return sum;
    });
  };

  /**
   * [{n, id, share}] of those the block has seen; none before it is painted.
   * @type {(row: number, col: number) => Heard[]}
   */
  const shares = (row, col) => {
    const all = sums(row, col);
    const total = all.reduce((a, b) => a + b, 0);
    return ids.map((id, n) => ({ n, id, share: total ? all[n] / total : 0 }))
      .filter(({ n }) => all[n] > 0);
  };

  /** @type {(row: number, col: number) => Heard | null} */
  const winner = (row, col) => shares(row, col).reduce(
    (best, one) => (one.share > (best?.share || 0) ? one : best), /** @type {Heard | null} */ (null));

  /**
   * [number of the neighbor or -1, share 0..1] of every cell, row by row.
   * @returns {[number, number][]}
   */
  const cellWinners = () => Array.from({ length: cells * cells }, (_, index) => {
    const [y, x] = [Math.floor(index / cells), index % cells];
    let [best, total] = [-1, 0];
    ids.forEach((__, n) => {
      total += at(n, y, x);
      if (at(n, y, x) > (best < 0 ? 0 : at(best, y, x))) best = n;
    });
    return [best, best < 0 ? 0 : at(best, y, x) / total];
  });

  /** @type {(n: number) => number[]} */
  const cellShares = (n) => Array.from({ length: cells * cells }, (_, index) => {
    const [y, x] = [Math.floor(index / cells), index % cells];
    const total = ids.reduce((sum, __, m) => sum + at(m, y, x), 0);
    return total ? at(n, y, x) / total : 0;
  });

  return { cells, shares, winner, cellWinners, cellShares };
};

/**
 * 0..1 over the range of what is there, so that small differences are seen.
 * @param {number[]} values
 */
const stretched = (values) => {
  const seen = values.filter((value) => value > 0);
  const [low, high] = [Math.min(...seen), Math.max(...seen)];
  return values.map((value) => (value > 0 && high > low ? (value - low) / (high - low) : 0));
};

/** @type {(pen: Pen, cells: number, pixel: (index: number) => number[]) => void} */
const paintCells = (pen, cells, pixel) => {
  const small = new OffscreenCanvas(cells, cells);
  const to = /** @type {OffscreenCanvasRenderingContext2D} */ (small.getContext("2d"));
  const image = to.createImageData(cells, cells);
  for (let index = 0; index < cells * cells; index += 1) image.data.set(pixel(index), 4 * index);
  to.putImageData(image, 0, 0);
  pen.imageSmoothingEnabled = false;
  pen.clearRect(0, 0, pen.canvas.width, pen.canvas.height);
  pen.drawImage(small, 0, 0, pen.canvas.width, pen.canvas.height);
};

/**
 * Every cell in the color of the neighbor it listened to most; the clearer the win, the stronger.
 * @param {Pen} pen
 * @param {ReturnType<typeof attention>} heard
 */
export const drawWinners = (pen, heard) => {
  const winners = heard.cellWinners();
  const clear = stretched(winners.map(([, share]) => share));
  paintCells(pen, heard.cells, (index) => {
    const [n] = winners[index];
    return n < 0 ? [0, 0, 0, 0] : [...rgb(n), 110 + 130 * clear[index]];
  });
};

/**
 * How much every cell listened to one neighbor.
 * @param {Pen} pen
 * @param {ReturnType<typeof attention>} heard
 * @param {number} n
 */
export const drawOne = (pen, heard, n) => {
  const strong = stretched(heard.cellShares(n));
  paintCells(pen, heard.cells, (index) => [...rgb(n), 235 * strong[index]]);
};

// ---- seams -----------------------------------------------------------------------------------

const BESIDE = [-3, -2, 2, 3];

/**
 * Jump between pixels i and i + 1 along one line, mean over the colors.
 * @param {ImageData} pixels
 * @param {boolean} across
 */
const jumpsOf = ({ data, width }, across) => (/** @type {number} */ line, /** @type {number} */ i) => {
  const [step, start] = across ? [4, (line * width + i) * 4] : [4 * width, (i * width + line) * 4];
  let sum = 0;
  for (let c = 0; c < 3; c += 1) sum += Math.abs(data[start + step + c] - data[start + c]);
  return sum / 3;
};

/** @param {number[]} values */
const mean = (values) => values.reduce((a, b) => a + b, 0) / values.length;

/**
 * For each border between blocks: the jump across it and the jumps beside it, pixel by pixel.
 * @param {ImageData} pixels
 * @param {number} grid
 */
export const borders = (pixels, grid) => {
  const size = pixels.width;
  const found = [];
  for (const across of [true, false]) {
    const jump = jumpsOf(pixels, across);
    for (let n = 1; n < grid; n += 1) {
      const border = Math.round((n * size) / grid) - 1;
      const lines = Array.from({ length: size }, (_, line) => ({
        at: jump(line, border), beside: mean(BESIDE.map((by) => jump(line, border + by))),
      }));
      found.push({ across, border, lines });
    }
  }
  return found;
};

/**
 * Mean jump across the borders / the same 2 and 3 pixels away: 1 where no border can be told.
 * @param {ReturnType<typeof borders>} found
 */
export const seamRatio = (found) => {
  const lines = found.flatMap((one) => one.lines);
  return mean(lines.map(({ at }) => at)) / Math.max(1e-9, mean(lines.map(({ beside }) => beside)));
};

const REACH = 4; // pixels along a border that a patch of the heat map averages over

/**
 * Heat where a border shows; returns the seam ratio.
 * @param {Pen} pen
 * @param {ImageData} pixels
 * @param {number} grid
 */
export const drawSeams = (pen, pixels, grid) => {
  const scale = pen.canvas.width / pixels.width;
  const found = borders(pixels, grid);
  pen.clearRect(0, 0, pen.canvas.width, pen.canvas.height);
  for (const { across, border, lines } of found) {
    lines.forEach((_, line) => {
      const near = lines.slice(Math.max(0, line - REACH), line + REACH + 1);
      const excess = mean(near.map(({ at }) => at)) - mean(near.map(({ beside }) => beside));
      const heat = Math.min(1, Math.max(0, excess / 24)); // 24 of 255 levels is a plain step
      const [x, y] = across ? [border + 1, line] : [line, border + 1];
      const wide = 1.5;
      pen.fillStyle = `hsl(${50 - 50 * heat} 95% ${60 - 8 * heat}% / ${0.14 + 0.86 * heat})`;
      const [left, top, right, low] = across ? [x - wide, y, x + wide, y + 1] : [x, y - wide, x + 1, y + wide];
      pen.fillRect(left * scale, top * scale, (right - left) * scale, (low - top) * scale);
    });
  }
  return seamRatio(found);
};
