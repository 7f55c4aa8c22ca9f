// The address bar follows: it always holds the link that paints the picture on show.
import { E } from "./events.js";
import { hear } from "./store.js";

/**
 * The address of a picture; null where nobody else could open it, or nobody has asked for it.
 * @param {import("../types").Message} message
 */
export const addressOf = ({ state, kind, link, mine }) =>
  (state === "done" && kind !== "stored" && link && !mine ? `?${link}` : null);

export const watchAddress = () => hear(E.DRAWN, (message) => {
  const found = addressOf(message);
  const address = found && "embed" in document.documentElement.dataset ? `${found}&embed=1` : found;
  // kept in place of the one before: "back" leads to the page before this one, "undo" to a picture
  if (address) window.history.replaceState(window.history.state, "", address);
});
