// What the inspection draws, as functions of pictures and numbers: who was listened to, and seams.

/** @typedef {import("../types").Message} Message */
/** @typedef {{n: number, id: number, share: number}} Heard */
/** @typedef {CanvasRenderingContext2D | OffscreenCanvasRenderingContext2D} Pen */

// sixteen that are told apart in light and dark; each also has a number, for eyes that cannot
const COLORS = [
  "#e4572e", "#2e86ab", "#f2b134", "#4f8f3a", "#8e5bb5", "#1fa89a", "#d64f8a", "#8a5a35",
  "#4c6ef5", "#b5c334", "#b03a5b", "#38bdf8", "#ffb4a2", "#14532d", "#a45ee5", "#7b858c",
];
const PART = 1 / 8; // of a block: a smaller patch of a color goes without a number
const MARKS = 4; // numbers in one block

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
 * How its number is written on its color.
 * @param {number} n
 */
export const chip = (n) => ({ background: color(n), color: ink(n) });

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

  /** @type {(index: number) => number[]} */
  const levels = (index) => ids.map((_, n) => at(n, Math.floor(index / cells), index % cells));

  /**
   * The neighbor that cell `index`, counted row by row, listened to most: its number or -1, its
   * share, and how many the cell saw.
   * @type {(index: number) => {n: number, share: number, seen: number}}
   */
  const cellWinner = (index) => {
    const all = levels(index);
    const most = Math.max(...all);
    if (!(most > 0)) return { n: -1, share: 0, seen: 0 };
    const total = all.reduce((a, b) => a + b, 0);
    return { n: all.indexOf(most), share: most / total, seen: all.filter(Boolean).length };
  };

  /**
   * How much a cell listened to neighbor n, and how many it saw.
   * @type {(index: number, n: number) => {share: number, seen: number}}
   */
  const cellShare = (index, n) => {
    const all = levels(index);
    const total = all.reduce((a, b) => a + b, 0);
    return { share: total ? all[n] / total : 0, seen: all.filter(Boolean).length };
  };

  /**
   * Where to write whose color it is: for every neighbor with a good part of the block, the largest
   * first, the cell of its color nearest to their middle, its center from 0 to 1 in the block.
   * @type {(row: number, col: number) => {n: number, x: number, y: number}[]}
   */
  const regions = (row, col) => {
    const side = cells / grid;
    /** @type {Map<number, number[][]>} */
    const won = new Map();
    for (let y = 0; y < side; y += 1) {
      for (let x = 0; x < side; x += 1) {
        const { n } = cellWinner((row * side + y) * cells + col * side + x);
        if (n >= 0) won.set(n, [...won.get(n) ?? [], [(x + 0.5) / side, (y + 0.5) / side]]);
      }
    }
    return [...won].filter(([, places]) => places.length >= PART * side * side)
      .sort(([, a], [, b]) => b.length - a.length).slice(0, MARKS)
      .map(([n, places]) => {
        const [mx, my] = [0, 1].map((axis) => places.reduce((sum, one) => sum + one[axis], 0) / places.length);
        const far = (/** @type {number[]} */ [x, y]) => (x - mx) ** 2 + (y - my) ** 2;
        const [x, y] = places.reduce((best, one) => (far(one) < far(best) ? one : best));
        return { n, x, y };
      });
  };

  /** Whether anybody was listened to at all: with a guidance of 0 nobody is. */
  const any = /[^\0]/.test(bytes);

  /** @type {() => Heard[]} shares in the picture as a whole, of those that some block has seen */
  const overall = () => {
    const all = ids.map((_, n) => {
      let sum = 0;
      for (let index = 0; index < cells * cells; index += 1) sum += cellShare(index, n).share;
      return sum;
    });
    const total = all.reduce((a, b) => a + b, 0);
    return ids.map((id, n) => ({ n, id, share: total ? all[n] / total : 0 })).filter(({ n }) => all[n] > 0);
  };

  return { cells, any, shares, cellWinner, cellShare, regions, overall };
};

/**
 * How strongly a share is drawn, from 0 to 1: the same in every picture. None at all is 0, an even
 * share of those seen a half, twice as much or more 1.
 * @type {(share: number, seen: number) => number}
 */
export const strength = (share, seen) =>
  (seen < 2 ? share : Math.min(1, share / Math.min(1, 2 / seen)));

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
export const drawWinners = (pen, heard) => paintCells(pen, heard.cells, (index) => {
  const { n, share, seen } = heard.cellWinner(index);
  return n < 0 ? [0, 0, 0, 0] : [...rgb(n), 240 * strength(share, seen)];
});

/**
 * How much every cell listened to one neighbor.
 * @param {Pen} pen
 * @param {ReturnType<typeof attention>} heard
 * @param {number} n
 */
export const drawOne = (pen, heard, n) => paintCells(pen, heard.cells, (index) => {
  const { share, seen } = heard.cellShare(index, n);
  return [...rgb(n), 240 * strength(share, seen)];
});

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
