// A visitor's own photos on their way to the server.

const SENDERS = 4; // photos on their way at once
const LARGE = 300_000; // bytes; a smaller file is sent as it is
const QUALITY = 0.92;

/**
 * The server only needs squares of `size` / 2: twice that leaves it something to scale down.
 * @param {File} file
 * @param {number} size
 */
const shrink = async (file, size) => {
  const image = await createImageBitmap(file).catch(() => null);
  if (!image) return file; // not for the browser; the server says what is wrong with it
  const scale = size / Math.min(image.width, image.height);
  if (scale >= 1 && file.size < LARGE) return file;
  const [width, height] = [image.width, image.height].map((side) => Math.max(1, Math.round(side * Math.min(1, scale))));
  const canvas = new OffscreenCanvas(width, height);
  const pen = /** @type {OffscreenCanvasRenderingContext2D} */ (canvas.getContext("2d"));
  pen.fillStyle = "#fff";
  pen.fillRect(0, 0, width, height);
  pen.imageSmoothingQuality = "high";
  pen.drawImage(image, 0, 0, width, height);
  image.close();
  return new File([await canvas.convertToBlob({ type: "image/jpeg", quality: QUALITY })], file.name);
};

/**
 * Sends photos, a few at a time.
 * @param {File[]} files
 * @param {number} size pixels that the shorter side needs at most
 * @param {(file: File) => Promise<{path: string}>} upload
 * @param {() => void} sent called after each
 * @param {() => boolean} stopped
 * @returns {Promise<{name: string, path?: string}[]>} without a path where one could not be sent
 */
export const sendAll = async (files, size, upload, sent, stopped) => {
  const waiting = [...files.entries()];
  /** @type {{name: string, path?: string}[]} */
  const found = [];
  const work = async () => {
    for (let next = waiting.shift(); next && !stopped(); next = waiting.shift()) {
      const [at, file] = next;
      const done = await shrink(file, size).then(upload).catch(() => null);
      found[at] = { name: file.name, path: done?.path };
      sent();
    }
  };
  await Promise.all(Array.from({ length: SENDERS }, work));
  return found;
};
