// The address bar follows: it always holds the link that paints the picture on show, and ends with
// the block and the view that are looked at.
import { E } from "./events.js";
import { follow, hear, state } from "./store.js";

/** @typedef {import("../types").Message} Message */

/**
 * The address of a picture; null where nobody else could open it, or nobody has asked for it.
 * @param {Message} message
 */
export const addressOf = ({ state: phase, kind, link, mine }) =>
  (phase === "done" && kind !== "stored" && link && !mine ? `?${link}` : null);

/**
 * The block and the view that are on show, for the end of a link.
 * @param {import("../types").State} s
 */
export const looked = ({ pinned, view }) => {
  const ends = [pinned ? `at=${pinned.join()}` : "", view === "picture" ? "" : `view=${view}`].filter(Boolean);
  return ends.length ? `#${ends.join("&")}` : "";
};

export const watchAddress = () => {
  const framed = new URLSearchParams(location.search).get("embed") === "1" ? "&embed=1" : "";
  /** @type {string | null} */
  let address = null;
  // kept in place of the one before: "back" leads to the page before this one, "undo" to a picture
  const show = () => {
    if (address) window.history.replaceState(window.history.state, "", address + framed + looked(state()));
  };
  hear(E.DRAWN, (/** @type {Message} */ message) => {
    address = addressOf(message) ?? address;
    show();
  });
  follow(({ pinned, view }) => [pinned, view], show);
};
