// A picture, and each of its blocks beside the blocks that it listened to, the most first: the sheet
// of `block_sheet` in `rissole/app/labeled_sheets.py`.

const [INK, SOFT, PAPER, LINE] = ["#1f1b18", "#6e665d", "#fffdfa", "#c8643a"];
const [GAP, TILE, CAPTION, LABEL] = [8, 56, 20, 44]; // pixels
const FONT = "system-ui, sans-serif";

/**
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
  const measure = /** @type {OffscreenCanvasRenderingContext2D} */ (new OffscreenCanvas(1, 1).getContext("2d"));
  measure.font = `16px ${FONT}`;
  const width = Math.max(left + LABEL + (1 + most) * (TILE + GAP) + GAP,
    Math.ceil(measure.measureText(title).width) + 2 * GAP);
  const height = top + Math.max(side + GAP + whole, rows.length * (high + GAP)) + GAP;
  const canvas = new OffscreenCanvas(width, height);
  const pen = /** @type {OffscreenCanvasRenderingContext2D} */ (canvas.getContext("2d"));
  pen.imageSmoothingQuality = "high";

  /** @type {(text: string, x: number, y: number, size?: number, color?: string) => void} */
  const write = (text, x, y, size = 11, color = SOFT) => {
    pen.font = `${size}px ${FONT}`;
    pen.fillStyle = color;
    pen.fillText(text, x, y);
  };
  /** @type {(from: CanvasImageSource & {width: number}, block: number, x: number, y: number) => void} */
  const cut = (from, block, x, y) => {
    const part = from.width / grid;
    pen.drawImage(from, (block % grid) * part, Math.floor(block / grid) * part, part, part, x, y, TILE, TILE);
  };

  pen.fillStyle = PAPER;
  pen.fillRect(0, 0, width, height);
  pen.textBaseline = "top";
  write(title, GAP, GAP, 16, INK);
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
    write(String(id), x, y + 2 * TILE - 2);
  });
  rows.forEach((row, block) => {
    const y = top + block * (high + GAP), x = left + LABEL;
    write(`${Math.floor(block / grid) + 1}, ${(block % grid) + 1}`, left, y + TILE / 2 - 6, 13, INK);
    cut(picture, block, x, y);
    row.forEach(({ id, share }, n) => {
      const one = neighbors.get(id), to = x + (n + 1) * (TILE + GAP) + GAP;
      if (one) cut(one, block, to, y);
      write(`${id}: ${Math.round(100 * share)}%`, to, y + TILE + 2);
    });
  });
  return canvas.convertToBlob({ type: "image/png" });
};
