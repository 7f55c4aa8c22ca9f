// The picture follows what a visitor changes, with the same seed: a sketch in few calls for every
// wish, and only the newest wish counts.
import { press, within } from "./dom.js";
import { engine } from "./engine.js";
import { E } from "./events.js";
import { ANY_SEED, chosen, keepsSeed, wishOf } from "./state.js";
import { hear, live, state, tell } from "./store.js";
import { go } from "./turns.js";

const EDITS = [E.TOGGLE, E.ADD, E.REMOVE, E.ASSIGN, E.CLEAR, E.CHANGE];
const MOST = 2; // on their way: the one that is painted, and the one that will end it
const KEPT = "rissole-live"; // where browsers keep the visitor's choice

let flying = 0;
let waiting = false; // a newer wish waits here until one of those has come back

/** @param {boolean} sketch */
const send = async (sketch) => {
  flying += 1;
  waiting = false;
  for await (const message of engine().paint(wishOf(state(), sketch))) tell(E.FRAME, message);
  flying -= 1;
  if (waiting) send(sketch);
};

/** @type {string} */
let last = ""; // what was wished last: an edit that changes nothing asks for nothing

/** What a wish comes down to: the order of neighbors has no effect. */
const essence = () => {
  const { number: _, neighbors, ...rest } = wishOf(state(), true);
  return JSON.stringify([{ ...rest, steps: 0 }, [...neighbors].sort((a, b) => a - b)]);
};

const sketch = () => {
  if (!state().follows || !chosen(state()).length || essence() === last) return;
  last = essence();
  if (live()) press("rs-stop"); // the newest wish wins
  tell(E.WISH);
  if (flying < MOST) send(true);
  else waiting = true;
};

// ---- another query -------------------------------------------------------------------------------

/** @type {"seek" | "reseek" | null} */
let sought = null;
const find = () => {
  const how = sought;
  sought = null;
  if (!state().follows || !how) return;
  if (how === "seek") go();
  else sketch();
};

const watchSearches = () => {
  hear(E.SEEK, () => { sought = "seek"; });
  hear(E.RESEEK, () => { sought = "reseek"; });
  for (const refused of [E.UNREAD, E.UNMOVED]) hear(refused, () => { sought = null; });
  hear(E.FOUND, find);
  // the buttons and fields of the library
  document.addEventListener("click", (event) => { if (within(event, "#rs-surprise")) tell(E.SEEK); });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && within(event, "#rs-text")) tell(E.SEEK);
  });
};

const keptChoice = () => {
  try { return localStorage.getItem(KEPT); } catch { return null; } // it may be switched off
};

/**
 * @param {boolean} usual whether the picture follows before a visitor has chosen
 */
export const watchLive = (usual) => {
  const kept = keptChoice();
  tell(E.LIVE, kept === null ? usual : kept === "on");
  for (const edit of EDITS) hear(edit, sketch);
  hear(E.START, () => {
    last = essence();
    if (!engine().presses) send(false);
  });
  hear(E.LIVE, (follows) => {
    try { localStorage.setItem(KEPT, follows ? "on" : "off"); } catch { /* for this page, then */ }
  });
  watchSearches();
};

/**
 * Who types a seed wants it used. The library tells of keys that are pressed in a text field, not of
 * what is pasted, erased, or written on a phone.
 */
export const watchSeed = () => {
  document.addEventListener("input", (event) => {
    const field = /** @type {HTMLInputElement | null} */ (within(event, "#rs-seed input"));
    if (!field) return;
    const fresh = /** @type {HTMLInputElement | null} */ (document.querySelector("#rs-new-seed input"));
    const any = ANY_SEED.includes(field.value.trim());
    if (fresh && fresh.checked !== any) fresh.click();
    if (any) return;
    tell(E.SETTINGS, { seed: field.value });
    tell(E.CHANGE);
  });
};

/**
 * What Generate is given, [order, grid, steps, guidance, strength, whether the seed is new, seed]: a
 * sketch is finished with its own seed.
 * @param {unknown[]} values
 */
export const seeded = (values) => {
  // the library may ask before the page has heard that something begins
  const same = live() ? state().sameSeed : keepsSeed(state());
  return same ? values.map((value, n) => (n === values.length - 2 ? false : value)) : values;
};
