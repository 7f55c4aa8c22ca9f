// The picture itself: frames are decoded off screen and may finish out of order.
import { penOf } from "../shared/dom.js";
import { thumb } from "../shared/values.js";

/** @typedef {import("../types").Message} Message */

/** @param {string} address */
const load = async (address) => {
  const image = new Image();
  image.src = address;
  await image.decode();
  return image;
};

/**
 * The canvas that frames are drawn on.
 * @param {HTMLCanvasElement} canvas
 * @param {import("./film.js").Film} film knows pictures that were decoded before
 */
export const pixelsOf = (canvas, film) => {
  const pen = penOf(canvas, { willReadFrequently: true });
  let asked = 0;
  let drawn = 0;

  /**
   * Draws a message; false where a later one was faster.
   * @param {Message} message
   */
  const draw = async ({ frame, state, repaint, grid }) => {
    const order = ++asked;
    const image = await load(frame).catch(() => null);
    if (!image || order < drawn) return false;
    drawn = order;
    canvas.classList.remove("rs-faint");
    pen.globalAlpha = 1;
    // while blocks are repainted only those are drawn: the others stay as they were, to the pixel
    const some = state === "running" && repaint;
    const size = some ? canvas.width / grid : canvas.width;
    for (const [row, col] of some || [[0, 0]]) {
      /** @type {[number, number, number, number]} */
      const area = [col * size, row * size, size, size];
      pen.drawImage(image, ...area, ...area);
    }
    return true;
  };

  /**
   * Before the first step: the average of the neighbors, faint.
   * @param {number[]} ids
   * @param {Record<string, number[]>} own neighbors of single blocks
   * @param {string} source
   * @param {number} grid
   * @param {() => boolean} wanted whether it still is, once all are decoded
   */
  const drawCommon = async (ids, own, source, grid, wanted) => {
    const order = ++asked;
    const every = [...new Set([...ids, ...Object.values(own).flat()])];
    const found = await Promise.all(every.map((id) => film.image(thumb(source, id))));
    if (order < drawn || !wanted()) return false;
    drawn = order;
    const images = new Map(every.map((id, n) => [id, found[n]]));
    canvas.classList.add("rs-faint");
    drawMean(ids.map((id) => images.get(id)), [0, 0, canvas.width, canvas.width]);
    const size = canvas.width / grid;
    for (const [at, theirs] of Object.entries(own)) {
      const [row, col] = at.split(",").map(Number);
      drawMean(theirs.map((id) => images.get(id)), [col * size, row * size, size, size]);
    }
    pen.globalAlpha = 1;
    return true;
  };

  /**
   * Layer n at 1 / n is the mean.
   * @param {(HTMLImageElement | null | undefined)[]} images
   * @param {[number, number, number, number]} area
   */
  const drawMean = (images, area) => {
    images.filter((image) => image !== null && image !== undefined).forEach((image, n) => {
      const scale = image.width / canvas.width;
      const [x, y, width, height] = area.map((value) => value * scale);
      pen.globalAlpha = 1 / (n + 1);
      pen.drawImage(image, x, y, width, height, ...area);
    });
  };

  const read = () => pen.getImageData(0, 0, canvas.width, canvas.height);

  return { draw, drawCommon, read };
};
