// Pictures dropped on the page, from outside the browser.
import { within } from "./dom.js";

const ZONES = ".rs-picture, .rs-share";

/** @param {DragEvent} event */
const bringsFiles = (event) => [...event.dataTransfer?.types ?? []].includes("Files");

/** @param {Element | null} zone */
const light = (zone) => {
  for (const node of document.querySelectorAll(".rs-drop")) node.classList.remove("rs-drop");
  zone?.classList.add("rs-drop");
};

/** @param {(files: FileList) => void} take what was dropped on one of the zones */
export const watchDrops = (take) => {
  document.addEventListener("dragover", (event) => {
    if (!bringsFiles(event) || !event.dataTransfer) return;
    // dropped beside it, a file would take the place of the whole page
    const zone = within(event, ZONES);
    event.preventDefault();
    event.dataTransfer.dropEffect = zone ? "copy" : "none";
    light(zone);
  });
  document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) light(null); });
  document.addEventListener("drop", (event) => {
    light(null);
    if (!bringsFiles(event) || !event.dataTransfer) return;
    event.preventDefault();
    if (within(event, ZONES)) take(event.dataTransfer.files);
  });
};
