// Pictures on one sheet, with labels: `rissole/app/labeled_sheets.py` in the tab.

const [INK, SOFT, PAPER, LINE] = ["#1f1b18", "#6e665d", "#fffdfa", "#c8643a"];
const [GAP, TILE, CAPTION, LABEL] = [8, 56, 20, 44]; // pixels
const FONT = "system-ui, sans-serif";
const PICTURE = 160; // pixels of a side on a sheet of whole pictures

/** @typedef {OffscreenCanvasRenderingContext2D} Pen */

/** @param {number} width @param {number} height @returns {{canvas: OffscreenCanvas, pen: Pen}} */
const paper = (width, height) => {
  const canvas = new OffscreenCanvas(width, height), pen = /** @type {Pen} */ (canvas.getContext("2d"));
  pen.fillStyle = PAPER;
  pen.fillRect(0, 0, width, height);
  pen.imageSmoothingQuality = "high";
  pen.textBaseline = "top";
  return { canvas, pen };
};

/** @type {(pen: Pen, text: string, x: number, y: number, size?: number, color?: string) => void} */
const write = (pen, text, x, y, size = 11, color = SOFT) => {
  pen.font = `${size}px ${FONT}`;
  pen.fillStyle = color;
  pen.fillText(text, x, y);
};

/** @param {string} text @param {number} size */
const widthOf = (text, size) => {
  const { pen } = paper(1, 1);
  pen.font = `${size}px ${FONT}`;
  return Math.ceil(pen.measureText(text).width);
};

/**
 * Pictures in rows and columns with a label on every row and column, see `labeled_grid`.
 * @param {{picture: CanvasImageSource, note: string}[]} cells row by row; there may be fewer than places
 * @param {string[]} columns @param {string[]} rows @param {string} title
 * @returns {Promise<Blob>}
 */
export const labeledGrid = (cells, columns, rows, title) => {
  const left = 2 * GAP + Math.max(...rows.map((text) => widthOf(text, 13))), top = GAP + 28 + 24;
  const across = Math.max(PICTURE, ...columns.map((text) => widthOf(text, 13))) + GAP, down = PICTURE + GAP + CAPTION;
  const width = Math.max(left + columns.length * across, widthOf(title, 16) + 2 * GAP);
  const { canvas, pen } = paper(width, top + rows.length * down + GAP);
  write(pen, title, GAP, GAP, 16, INK);
  columns.forEach((text, n) => write(pen, text, left + n * across, top - 20, 13, INK));
  rows.forEach((text, n) => write(pen, text, GAP, top + n * down + PICTURE / 2 - 6, 13, INK));
  cells.forEach(({ picture, note }, n) => {
    const [x, y] = [left + (n % columns.length) * across, top + Math.floor(n / columns.length) * down];
    pen.drawImage(picture, x, y, PICTURE, PICTURE);
    write(pen, note, x, y + PICTURE + 3, 12);
  });
  return canvas.convertToBlob({ type: "image/png" });
};

/**
 * A picture, and each of its blocks beside the blocks that it listened to, the most first.
 * @param {CanvasImageSource & {width: number}} picture
 * @param {{ids: number[], shares: number[][], grid: number}} heard shares of each block, row by row
 * @param {Map<number, CanvasImageSource & {width: number}>} neighbors their pictures
 * @param {string} title
 * @returns {Promise<Blob>}
 */
export const blockSheet = async (picture, { ids, shares, grid }, neighbors, title) => {
  const rows = shares.map((all) => ids.map((id, n) => ({ id, share: all[n] })).filter(({ share }) => share > 0)
    .sort((a, b) => b.share - a.share));
  const side = 4 * TILE, top = GAP + 28, left = side + 4 * GAP, high = TILE + CAPTION;
  const most = Math.max(0, ...rows.map(({ length }) => length));
  const whole = Math.ceil(ids.length / 2) * (2 * TILE + CAPTION); // the neighbors, two in a row
  const width = Math.max(left + LABEL + (1 + most) * (TILE + GAP) + GAP, widthOf(title, 16) + 2 * GAP);
  const height = top + Math.max(side + GAP + whole, rows.length * (high + GAP)) + GAP;
  const { canvas, pen } = paper(width, height);
  /** @type {(from: CanvasImageSource & {width: number}, block: number, x: number, y: number) => void} */
  const cut = (from, block, x, y) => {
    const part = from.width / grid;
    pen.drawImage(from, (block % grid) * part, Math.floor(block / grid) * part, part, part, x, y, TILE, TILE);
  };

  write(pen, title, GAP, GAP, 16, INK);
  pen.drawImage(picture, GAP, top, side, side);
  pen.strokeStyle = LINE;
  for (let line = 1; line < grid; line++) {
    const at = (line * side) / grid;
    pen.strokeRect(GAP + at, top, 0, side);
    pen.strokeRect(GAP, top + at, side, 0);
  }
  ids.forEach((id, n) => {
    const [x, y] = [GAP + (n % 2) * 2 * TILE, top + side + GAP + Math.floor(n / 2) * (2 * TILE + CAPTION)];
    const one = neighbors.get(id);
    if (one) pen.drawImage(one, x, y, 2 * TILE - 4, 2 * TILE - 4);
    write(pen, String(id), x, y + 2 * TILE - 2);
  });
  rows.forEach((row, block) => {
    const y = top + block * (high + GAP), x = left + LABEL;
    write(pen, `${Math.floor(block / grid) + 1}, ${(block % grid) + 1}`, left, y + TILE / 2 - 6, 13, INK);
    cut(picture, block, x, y);
    row.forEach(({ id, share }, n) => {
      const one = neighbors.get(id), to = x + (n + 1) * (TILE + GAP) + GAP;
      if (one) cut(one, block, to, y);
      write(pen, `${id}: ${Math.round(100 * share)}%`, to, y + TILE + 2);
    });
  });
  return canvas.convertToBlob({ type: "image/png" });
};
