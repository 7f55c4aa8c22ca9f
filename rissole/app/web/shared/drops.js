// Pictures dropped or pasted anywhere on the page. One that was painted here, with its recipe in it,
// is opened; any other becomes the query; several become the visitor's own photos.
import { E } from "./events.js";
import { live, tell } from "./store.js";

const RECIPE = /(tEXt|zTXt|iTXt)rissole\0/; // a text chunk of a PNG file, see `save_png`

/**
 * Whether bytes are those of a PNG file with a recipe.
 * @param {Uint8Array} bytes
 */
export const hasRecipe = (bytes) => RECIPE.test(new TextDecoder("latin1").decode(bytes));

/** @param {File} file */
const take = async (file) => {
  const bytes = new Uint8Array(await file.arrayBuffer());
  tell(hasRecipe(bytes) ? E.RECIPE : E.PHOTO, file);
};

/** @param {DataTransfer | null} data */
const takeAll = (data) => {
  const files = [...data?.files ?? []];
  if (files.length > 1) tell(E.PHOTOS, files);
  else if (files.length) take(files[0]);
};
/** @param {DragEvent} event */
const bringsFiles = (event) => [...event.dataTransfer?.types ?? []].includes("Files");
const light = (/** @type {boolean} */ on) => document.documentElement.classList.toggle("rs-drop", on);

export const watchDrops = () => {
  document.addEventListener("dragover", (event) => {
    if (!bringsFiles(event) || !event.dataTransfer) return;
    event.preventDefault(); // else the file would take the place of the whole page
    event.dataTransfer.dropEffect = live() ? "none" : "copy";
    light(!live());
  });
  document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) light(false); });
  document.addEventListener("drop", (event) => {
    light(false);
    if (!bringsFiles(event)) return;
    event.preventDefault();
    if (!live()) takeAll(event.dataTransfer);
  });
  document.addEventListener("paste", (event) => {
    if (!event.clipboardData?.files.length || live()) return;
    event.preventDefault();
    takeAll(event.clipboardData);
  });
};
