// Generate and Stop, in turn: Stop waits until the server has accepted what it should stop, and all
// that paints until the run before is over (see `patches.js`).
import { pause, press, within } from "./dom.js";
import { E } from "./events.js";
import { beginning, cancelling, countRequests, isServed, onRequest, sinceCancelled } from "./patches.js";
import { hear, live, tell } from "./store.js";

const HEARD = 500; // ms in which the library sends what Stop asked for, if it has to
const BEGUN = 5000; // and what begins a run: it always does, but perhaps on a phone that is busy
// ms in which it tells that a run is over that was painted or stopped: it does so at once, but for a
// phone that is very busy, and never where the server is gone
const OVER = 20_000;
const POLL = 30; // ms

let begun = { at: 0, sent: true }; // the run, and whether the server was told of it
let ended = { at: 0, sent: true };
/** @param {{at: number, sent: boolean}} request @param {number} patience */
const unsent = ({ at, sent }, patience) => !sent && Date.now() - at < patience;

/** A run is asked for that shows elsewhere than on the canvas, see `endRun`. */
export const beginRun = () => { begun = { at: Date.now(), sent: false }; };
let pressed = 0; // when Generate was: the library may send a run before the page shows it
/** The run that the page shows next was sent before. */
export const runWasSent = () => {
  begun = { at: Date.now(), sent: true };
  pressed = begun.at;
};
/** Whether the server has not yet accepted what was begun: nothing else can be cancelled. */
const unheard = () => beginning() || (isServed() && unsent(begun, BEGUN));

let over = true; // whether the library has done with the run: it tells after the last frame
let left = 0; // when the run was painted, stopped, or failed
const closing = () => !over && !live() && Math.min(Date.now() - left, sinceCancelled()) < OVER;
/** Whether a run that was painted or stopped is not yet over: another would be passed over. */
export const ending = () => cancelling() || unsent(ended, HEARD) || closing();

/** @type {(() => void) | null} */
let next = null; // what was asked for last while a run was ending
/**
 * Does something that paints as soon as it can be heard.
 * @param {() => void} action
 */
export const inTurn = async (action) => {
  if (!ending()) { action(); return; }
  const alone = !next;
  next = action;
  if (!alone) return;
  while (ending()) await pause(POLL);
  const last = next;
  next = null;
  last?.();
};

/** @type {Record<string, () => boolean>} */
const ready = {
  "rs-stop": () => !unheard(),
  "rs-generate": () => !ending(),
};

/** @type {HTMLElement | null} */
let waiting = null; // the button that is pressed as soon as it can do what it says
/** @param {HTMLElement} button */
const pressLater = async (button) => {
  if (waiting) return;
  waiting = button;
  tell(E.WAITING, button.id);
  while (!ready[button.id]()) await pause(POLL);
  await pause(POLL); // the library, too, has heard of it
  waiting = null;
  // something else was asked for as well, and has begun; or the run was over sooner
  if (live() !== (button.id === "rs-stop")) return;
  if (button.id === "rs-generate") next = null;
  button.click();
};

/**
 * Stop comes up where Generate was: the second click of a double click, or a key that is held
 * down, is not meant for it.
 * @param {MouseEvent} event
 */
const slipped = (event) => event.isTrusted && event.detail !== 1 && Date.now() - begun.at < HEARD;

/** @param {MouseEvent} event */
const takeTurns = (event) => {
  const button = within(event, "#rs-generate, #rs-stop");
  if (!button) return;
  const stop = button.id === "rs-stop";
  const slip = stop && slipped(event);
  if (!slip && !waiting && ready[button.id]()) {
    if (stop) {
      ended = { at: Date.now(), sent: false };
    } else {
      beginRun();
      pressed = begun.at;
    }
    return;
  }
  event.stopImmediatePropagation();
  event.preventDefault();
  if (!slip) pressLater(button);
};

/**
 * Ends a run that shows elsewhere than on the canvas, once the server has accepted it. It is over
 * when this is: what is asked for before would be passed over.
 * @param {() => void} end asks the library to cancel it
 */
export const endRun = async (end) => {
  do await pause(POLL); while (unheard());
  await pause(POLL); // the library, too, has heard of it
  end();
  do await pause(POLL); while (cancelling());
};

/** Generates, and stops first where something is being painted. */
export const go = async () => {
  if (live()) press("rs-stop");
  while (live()) await pause(POLL);
  requestAnimationFrame(() => setTimeout(() => press("rs-generate"), 2 * POLL));
};

export const watchTurns = () => {
  for (const end of [E.OVER, E.FAILED]) hear(end, () => { over = true; });
  countRequests();
  onRequest((begins) => { (begins ? begun : ended).sent = true; });
  window.addEventListener("click", takeTurns, { capture: true });
  hear(E.PHASE, (phase) => {
    if (phase === "starting") {
      if (Date.now() - pressed > HEARD) beginRun();
      pressed = 0;
      over = !isServed();
    } else if (!live()) left = Date.now();
    const [from, to] = live() ? ["rs-generate", "rs-stop"] : ["rs-stop", "rs-generate"];
    if (document.activeElement?.id === from) document.getElementById(to)?.focus({ preventScroll: true });
  });
};
