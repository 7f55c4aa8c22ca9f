// The engine that works on the server, through what Gradio lets a component's script say and hear.
import { giveFile } from "./patches.js";

/**
 * @typedef {import("../types").Message} Message
 * @typedef {import("../types").Component} Component
 */

const LAST = ["done", "error", "dropped"];

/**
 * @param {Component} canvas
 * @returns {import("../types").Engine & {receive(message: Message): boolean}}
 */
export const serverEngine = ({ trigger }) => {
  /** @type {Map<number, (message: Message) => void>} */
  const waiting = new Map(); // wishes under way, by their numbers

  /** @type {(wish: import("../types").Wish) => AsyncGenerator<Message>} */
  const paint = async function* paint(wish) {
    trigger("sketch", { wish });
    for (;;) {
      /** @type {Message} */
      const message = await new Promise((resolve) => { waiting.set(wish.number, resolve); });
      yield message;
      if (LAST.includes(message.state)) return;
    }
  };

  return {
    presses: true,
    paint,
    retrieve: (query) => {
      if (query.image) giveFile("rs-upload", query.image);
      else trigger("run" in query ? "more" : "pick", query);
    },
    inspect: (run) => trigger("look", { run }),
    /** Takes what answers a wish; false for any other message. */
    receive: (message) => {
      const { wish } = message;
      if (wish === undefined) return false;
      const resolve = waiting.get(wish);
      waiting.delete(wish);
      resolve?.(message);
      return true;
    },
  };
};
