// What retrieves and paints for the page. The page's modules ask the engine, and know nothing of
// where it works: on the server (`serverEngine` in server_engine.js), or in a worker of this tab.
//
// An engine has
//   paint(wish)      an async iterable of messages (`Message` in types.d.ts): frames with the state
//                    "running" where it has time for them, then one "done", "error" or "dropped".
//                    Each carries the wish's number. A newer wish ends an older one within a step.
//   retrieve(query)  {item}, {run} (the picture on show) or {image: File}; the neighbors are told
//                    as E.FOUND, a refusal as E.UNREAD.
//   inspect(run)     the latents of the query and of the picture of a run, told by who shows them.
//   presses          whether it hears Generate, Stop and Repaint by itself. Where it does not,
//                    `live.js` asks it to `paint` when Generate is pressed.
// Query pictures are embedded by `retrieve`: nothing else on the page needs a vector.

/** @typedef {import("../types").Engine} Engine */

/** @type {Engine | null} */
let current = null;

/** @param {Engine} engine what serves this page from now on */
export const useEngine = (engine) => { current = engine; };

/** @returns {Engine} */
export const engine = () => {
  if (!current) throw new Error("nothing paints for this page yet");
  return current;
};
