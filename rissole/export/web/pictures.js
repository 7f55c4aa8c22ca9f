// Pictures in and out: squares of uploads, data addresses, PNG files with their recipe.
import { crc32 } from "./links.js";

const KEY = "rissole"; // of the text chunk, as in `rissole/data/images.py`
const SIGNATURE = 8, TEXT = new TextEncoder(), PLAIN = new TextDecoder("latin1");

/** @param {number} width @param {number} height */
const sheet = (width, height) => {
  const canvas = new OffscreenCanvas(width, height), pen = canvas.getContext("2d", { willReadFrequently: true });
  if (!pen) throw new Error("this browser does not draw");
  return { canvas, pen };
};

/** @param {Uint8ClampedArray} rgba of a square */
export const toCanvas = (rgba) => {
  const side = Math.sqrt(rgba.length / 4), { canvas, pen } = sheet(side, side);
  pen.putImageData(new ImageData(new Uint8ClampedArray(rgba), side, side), 0, 0);
  return canvas;
};

/** @param {Blob} blob @returns {Promise<string>} */
export const dataAddress = (blob) => new Promise((done, fail) => {
  const reader = new FileReader();
  reader.onload = () => done(String(reader.result));
  reader.onerror = () => fail(reader.error);
  reader.readAsDataURL(blob);
});

/** A picture for the page: every pixel as it is, or small. @param {Uint8ClampedArray} rgba @param {boolean} exact */
export const addressOf = async (rgba, exact) => {
  const how = exact ? { type: "image/png" } : { type: "image/webp", quality: 0.85 };
  return dataAddress(await toCanvas(rgba).convertToBlob(how));
};

/**
 * The largest centered square of a picture, scaled.
 * @param {Blob} file @param {number} side
 * @returns {Promise<{pixels: Float32Array, picture: Blob}>} (3, side, side) in [-1, 1], and as a small file
 */
export const squareOf = async (file, side) => {
  const image = await createImageBitmap(file).catch(() => null);
  if (!image) throw new Error("this is not a picture that can be read");
  const { canvas, pen } = sheet(side, side), cut = Math.min(image.width, image.height);
  pen.fillStyle = "#fff";
  pen.fillRect(0, 0, side, side);
  pen.imageSmoothingQuality = "high";
  pen.drawImage(image, (image.width - cut) / 2, (image.height - cut) / 2, cut, cut, 0, 0, side, side);
  image.close();
  const { data } = pen.getImageData(0, 0, side, side);
  return { pixels: pixelsOf(data), picture: await canvas.convertToBlob({ type: "image/webp", quality: 0.9 }) };
};

/** Pixels as a network wants them. @param {Uint8ClampedArray} rgba */
export const pixelsOf = (rgba) => {
  const area = rgba.length / 4;
  return Float32Array.from({ length: 3 * area }, (_, at) => rgba[4 * (at % area) + Math.floor(at / area)] / 127.5 - 1);
};

/** @param {string} kind @param {Uint8Array} body */
const chunk = (kind, body) => {
  const bytes = new Uint8Array(12 + body.length), view = new DataView(bytes.buffer);
  view.setUint32(0, body.length);
  bytes.set(TEXT.encode(kind), 4);
  bytes.set(body, 8);
  view.setUint32(8 + body.length, crc32(bytes.subarray(4, 8 + body.length)));
  return bytes;
};

/** @param {Uint8Array} png @returns {Generator<{kind: string, body: Uint8Array, end: number}>} */
const chunksOf = function* chunksOf(png) {
  const view = new DataView(png.buffer, png.byteOffset, png.byteLength);
  for (let at = SIGNATURE; at + 12 <= png.length;) {
    const length = view.getUint32(at), end = at + 12 + length;
    yield { kind: PLAIN.decode(png.subarray(at + 4, at + 8)), body: png.subarray(at + 8, at + 8 + length), end };
    at = end;
  }
};

/** A picture at another size. @param {Uint8ClampedArray} rgba @param {number} side */
export const scaled = (rgba, side) => {
  const { pen } = sheet(side, side);
  pen.imageSmoothingQuality = "high";
  pen.drawImage(toCanvas(rgba), 0, 0, side, side);
  return pen.getImageData(0, 0, side, side).data;
};

/** A PNG file with a recipe in it. @param {Uint8ClampedArray} rgba @param {string} json ASCII */
export const pngWith = async (rgba, json) => pngOf(await toCanvas(rgba).convertToBlob({ type: "image/png" }), json);

/** The same of a file without one. @param {Blob} file @param {string} json ASCII */
export const pngOf = async (file, json) => {
  const png = new Uint8Array(await file.arrayBuffer());
  const [{ end }] = chunksOf(png);
  const text = chunk("tEXt", TEXT.encode(`${KEY}\0${json}`));
  return new Blob([png.slice(0, end), text, png.slice(end)], { type: "image/png" });
};

/** The recipe in a PNG file, null where there is none. @param {Blob} file */
export const recipeIn = async (file) => {
  const png = new Uint8Array(await file.arrayBuffer());
  if (PLAIN.decode(png.subarray(1, 4)) !== "PNG") return null;
  for (const { kind, body } of chunksOf(png)) {
    const text = kind === "tEXt" ? PLAIN.decode(body) : "";
    if (text.startsWith(`${KEY}\0`)) return text.slice(KEY.length + 1);
  }
  return null;
};
