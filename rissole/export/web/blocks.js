// Blocks of a canvas: what `rissole/blocks.py` does, on flat arrays in (channel, row, column) order.

/** Spreads one value per block over its cells.
 * @param {ArrayLike<number>} values @param {number} grid @param {number} size */
export const perCell = (values, grid, size) => {
  const side = size / grid;
  return Float32Array.from({ length: size * size }, (_, at) =>
    values[Math.floor(Math.floor(at / size) / side) * grid + Math.floor((at % size) / side)]);
};

/** Weights of a window's rows: 1 inside, falling to 0 at both ends.
 * @param {number} block @param {number} halo */
const ramp = (block, halo) => {
  const window = block + 2 * halo;
  const line = Array.from({ length: window }, (_, at) => Math.min(1, (at + 0.5) / (2 * halo)));
  return line.map((value, at) => Math.min(value, line[window - 1 - at]));
};

/**
 * Lays windows on an empty canvas: blended where they overlap, or their blocks alone.
 * @param {Float32Array} windows (n, channels, w, w)
 * @param {number[]} group raster numbers of their blocks
 * @param {{size: number, grid: number, halo: number, channels: number, alone?: boolean}} shape
 * @returns {Float32Array} (channels, size, size), 0 where no window lies
 */
export const layOut = (windows, group, { size, grid, halo, channels, alone = false }) => {
  if (grid === 1) return windows.slice(0, channels * size * size);
  const block = size / grid, w = block + 2 * halo;
  const inside = (/** @type {number} */ at) => Number(at >= halo && at < halo + block);
  const line = alone || !halo ? Array.from({ length: w }, (_, at) => inside(at)) : ramp(block, halo);
  const canvas = new Float32Array(channels * size * size), mass = new Float32Array(size * size);
  group.forEach((number, n) => {
    const top = Math.floor(number / grid) * block - halo, left = (number % grid) * block - halo;
    for (let y = Math.max(0, -top); y < Math.min(w, size - top); y++) {
      for (let x = Math.max(0, -left); x < Math.min(w, size - left); x++) {
        const weight = line[y] * line[x], at = (top + y) * size + left + x;
        mass[at] += weight;
        for (let c = 0; c < channels; c++) {
          canvas[c * size * size + at] += weight * windows[((n * channels + c) * w + y) * w + x];
        }
      }
    }
  });
  return canvas.map((value, at) => value / Math.max(1e-6, mass[at % (size * size)]));
};

/** Crops a square. @param {Float32Array} maps (channels, size, size)
 * @param {number} size @param {{top: number, left: number, side: number}} area */
export const crop = (maps, size, { top, left, side }) => {
  const channels = maps.length / (size * size);
  return Float32Array.from({ length: channels * side * side }, (_, at) => {
    const c = Math.floor(at / (side * side)), y = Math.floor(at / side) % side, x = at % side;
    return maps[(c * size + top + y) * size + left + x];
  });
};
