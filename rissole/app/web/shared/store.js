// The page's state, and how its components tell each other what happened without a trip to the
// server: `tell` changes the state by `reduce`, redraws what shows it, then wakes who listens.
import { E } from "./events.js";
import { initial, isLive, reduce } from "./state.js";

/** @typedef {import("../types").State} State */

let now = initial;
/** @type {(() => void)[]} */
const views = [];
const page = globalThis.document?.documentElement;

export const state = () => now;
export const live = () => isLive(now);

/**
 * @param {string} name one of `E`
 * @param {unknown} [detail]
 */
export const tell = (name, detail) => {
  const before = now;
  now = reduce(now, { type: name, detail });
  if (now !== before) for (const view of [...views]) view();
  document.dispatchEvent(new CustomEvent(`rissole:${name}`, { detail }));
  showPhase();
};

/**
 * @param {string} name one of `E`
 * @param {(detail: any) => void} listener
 */
export const hear = (name, listener) =>
  document.addEventListener(`rissole:${name}`, (event) => listener(/** @type {CustomEvent} */ (event).detail));

/**
 * Draws now, and whenever one of the selected values is another one.
 * @param {(state: State) => unknown[]} select
 * @param {() => void} draw
 */
export const follow = (select, draw) => {
  let seen = select(now);
  views.push(() => {
    const next = select(now);
    if (next.every((value, n) => value === seen[n])) return;
    seen = next;
    draw();
  });
  draw();
};

// Style sheets, and whoever looks from outside, see the phase of the picture, and its kind.
const showPhase = () => {
  page.dataset.kind = now.message?.kind ?? "";
  if (page.dataset.rissole === now.phase) return;
  page.dataset.rissole = now.phase;
  tell(E.PHASE, now.phase);
};
