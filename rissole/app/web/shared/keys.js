// Keys for the whole page, and the list of them.
import { press, within } from "./dom.js";
import { E } from "./events.js";
import { live, tell } from "./store.js";

const FIELDS = "textarea, select, input:not([type=range], [type=checkbox], [type=radio])";

const dialog = () => /** @type {HTMLDialogElement | null} */ (document.getElementById("rs-keylist"));

const toggleList = () => {
  if (dialog()?.open) dialog()?.close();
  else dialog()?.showModal();
};

/** @type {Record<string, () => void>} */
const letters = { r: () => tell(E.REPAINT), z: () => tell(E.UNDO), "?": toggleList };

/** @param {EventTarget | null} target */
const typing = (target) => target instanceof HTMLElement && (target.isContentEditable || target.matches(FIELDS));

/** @param {KeyboardEvent} event */
const onKey = (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    if (live()) return;
    event.preventDefault();
    press("rs-generate");
  } else if (event.key === "Escape") {
    if (live()) press("rs-stop");
    else tell(E.ESCAPE);
  } else if (!event.ctrlKey && !event.metaKey && !event.altKey && !typing(event.target)) {
    letters[event.key.toLowerCase()]?.();
  }
};

export const watchKeys = () => {
  document.addEventListener("keydown", onKey);
  document.addEventListener("click", (event) => {
    if (within(event, "[data-keys]")) toggleList();
    if (event.target === dialog()) dialog()?.close(); // a click beside the list
  });
};
