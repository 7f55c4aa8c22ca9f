// A photo that is not square: which part of it counts is the visitor's choice. The middle, if they
// do not care.
import { make, penOf, worded } from "./dom.js";

const SQUARE = 1.12; // sides that differ by less are cut without a question
const [MOST, QUALITY] = [1024, 0.95]; // pixels of what is sent; far more than a query needs

/**
 * The square of a picture at a place along its longer side.
 * @param {number} width
 * @param {number} height
 * @param {number} at from 0, left or top, to 1
 */
export const squareAt = (width, height, at) => {
  const side = Math.min(width, height);
  return { x: Math.round((width - side) * at), y: Math.round((height - side) * at), side };
};

/** @type {(image: ImageBitmap, at: number, name: string) => Promise<File>} */
const cut = async (image, at, name) => {
  const { x, y, side } = squareAt(image.width, image.height, at);
  const size = Math.min(side, MOST);
  const canvas = new OffscreenCanvas(size, size);
  const pen = /** @type {OffscreenCanvasRenderingContext2D} */ (canvas.getContext("2d"));
  pen.fillStyle = "#fff"; // where a photo is transparent
  pen.fillRect(0, 0, size, size);
  pen.drawImage(image, x, y, side, side, 0, 0, size, size);
  return new File([await canvas.convertToBlob({ type: "image/jpeg", quality: QUALITY })], name);
};

/**
 * Asks for the place; null when the visitor thinks better of it.
 * @param {ImageBitmap} image
 * @param {Record<string, string>} texts
 * @returns {Promise<number | null>}
 */
const ask = (image, texts) => new Promise((resolve) => {
  const dialog = make("dialog", "rs-crop-dialog", { "aria-label": texts.cropTitle });
  const scale = Math.min(1, 420 / Math.max(image.width, image.height));
  const [width, height] = [image.width * scale, image.height * scale].map(Math.round);
  const stage = make("div", "rs-crop-stage", { style: `width:${width}px;height:${height}px` });
  const paper = make("canvas", "", { width, height, "aria-hidden": "true" });
  penOf(paper).drawImage(image, 0, 0, width, height);
  const frame = make("div", "rs-crop-frame");
  const slider = make("input", "", { type: "range", min: 0, max: 100, value: 50, "aria-label": texts.cropPlace });
  const show = () => {
    const { x, y, side } = squareAt(width, height, Number(slider.value) / 100);
    Object.assign(frame.style, { left: `${x}px`, top: `${y}px`, width: `${side}px`, height: `${side}px` });
  };
  const follow = (/** @type {PointerEvent} */ event) => {
    if (!event.buttons) return;
    const box = stage.getBoundingClientRect();
    const side = Math.min(width, height);
    const along = width > height ? (event.clientX - box.left - side / 2) / (width - side)
      : (event.clientY - box.top - side / 2) / (height - side);
    slider.value = String(Math.round(100 * along));
    show();
  };
  stage.addEventListener("pointerdown", follow);
  stage.addEventListener("pointermove", follow);
  slider.addEventListener("input", show);
  const use = worded("button", texts.cropUse, { type: "button", class: "rs-crop-use" });
  const cancel = worded("button", texts.cropCancel, { type: "button" });
  /** @type {number | null} */
  let chosen = null;
  use.addEventListener("click", () => { chosen = Number(slider.value) / 100; dialog.close(); });
  cancel.addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => { dialog.remove(); resolve(chosen); });
  const tools = make("div", "rs-tools");
  tools.append(use, cancel);
  stage.append(paper, frame);
  dialog.append(worded("h2", texts.cropTitle), stage, slider, tools);
  (document.querySelector(".gradio-container") ?? document.body).append(dialog);
  show();
  dialog.showModal();
  use.focus();
});

/**
 * The part of a photo that is searched with.
 * @param {File} file
 * @param {Record<string, string>} texts
 * @returns {Promise<File | null>} the file itself where there is nothing to choose; null for none
 */
export const cropped = async (file, texts) => {
  const image = await createImageBitmap(file).catch(() => null);
  if (!image) return file; // not for the browser; the server says what is wrong with it
  const [short, long] = [image.width, image.height].sort((a, b) => a - b);
  if (long <= SQUARE * short) return file;
  const at = await ask(image, texts);
  return at === null ? null : cut(image, at, file.name);
};
