// The page opens painted: a painting that is stored with the bundle plays before any call. The
// blocks come from the neighbors that they listened to most, and then the film of the painting runs.
import { make, showBlock } from "../shared/dom.js";
import { E } from "../shared/events.js";
import { hear, state, tell } from "../shared/store.js";
import { thumb } from "../shared/values.js";
import * as maps from "./maps.js";

/** @typedef {import("../types").Message} Message */

const [FLIGHT, APART, REST] = [620, 45, 260]; // ms: one block's way, between two, when all are there
const ENDS = [E.START, E.WISH, E.REPAINTING, E.FOUND, E.SCRUB, E.CHOOSE, E.HOLD];
const still = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

/**
 * @param {string} address
 * @param {string} source key of the database
 * @returns {Promise<Message[]>} none where there is nothing to show
 */
const fetchFilm = async (address, source) => {
  const answer = await fetch(address).catch(() => null);
  /** @type {Message[]} */
  const messages = answer?.ok ? (await answer.json()).messages : [];
  const attention = messages.at(-1)?.attention ?? "";
  return messages.map((message) => ({ ...message, source, attention }));
};

/**
 * The neighbor's picture on the page that a block comes from; null where it is not in view.
 * @param {number} id
 */
const origin = (id) => {
  const image = document.querySelector(`.rs-hit[data-id="${id}"] img`);
  const box = image?.getBoundingClientRect();
  return box?.width && box.top < innerHeight && box.bottom > 0 ? box : null;
};

/**
 * One block on its way from a neighbor to its place.
 * @type {(message: Message, at: number, over: DOMRect, sky: HTMLElement) => Animation}
 */
const fly = (message, at, over, sky) => {
  const { grid, ids, source } = message;
  const place = [Math.floor(at / grid), at % grid];
  const heard = maps.attention(message).shares(place[0], place[1]);
  const id = heard.reduce((best, one) => (one.share > best.share ? one : best), heard[0])?.id ?? ids[0];
  const size = over.width / grid;
  const node = make("span", "rs-flying");
  showBlock(node, thumb(source, id), grid, place);
  const [top, left, side] = [place[0] * size, place[1] * size, size].map((length) => `${length}px`);
  Object.assign(node.style, { top, left, width: side, height: side });
  sky.append(node);
  const from = origin(id);
  const small = from ? from.width / over.width : 0.5;
  const [x, y] = from
    ? [from.left - over.left + place[1] * (from.width / grid) - place[1] * size,
      from.top - over.top + place[0] * (from.width / grid) - place[0] * size]
    : [0, size];
  return node.animate(
    [{ transform: `translate(${x}px, ${y}px) scale(${small})`, opacity: from ? 1 : 0 },
      { transform: "none", opacity: 1 }],
    { duration: FLIGHT, delay: at * APART, easing: "cubic-bezier(.3, .7, .2, 1)", fill: "both" },
  );
};

/**
 * @param {HTMLElement} picture
 * @param {Message} message
 */
const flight = async (picture, message) => {
  const sky = make("div", "rs-sky", { "aria-hidden": "true" });
  picture.after(sky);
  const stop = () => sky.remove();
  for (const end of ENDS) hear(end, stop);
  const over = picture.getBoundingClientRect();
  Object.assign(sky.style, { left: `${picture.offsetLeft}px`, top: `${picture.offsetTop}px` });
  const all = Array.from({ length: message.grid ** 2 }, (_, at) => fly(message, at, over, sky));
  await Promise.allSettled(all.map((one) => one.finished));
  await new Promise((done) => { setTimeout(done, REST); });
  return sky;
};

/**
 * @param {HTMLElement} picture
 * @param {{address: string | null, source: string}} stored
 * @param {import("./film.js").Film} film
 * @param {(message: Message) => void} show
 */
export const openPainted = async (picture, { address, source }, film, show) => {
  const free = () => state().phase === "idle" && !new URLSearchParams(location.search).has("p");
  if (!address || !free()) return;
  const messages = await fetchFilm(address, source);
  const last = messages.at(-1);
  if (!last || !free()) return;
  for (const message of messages.slice(0, -1)) film.record(message);
  show(last);
  if (still()) return;
  const untouched = () => state().message?.run === last.run && state().phase === "done";
  const sky = await flight(picture, last);
  if (untouched() && sky.isConnected) tell(E.PLAY, true);
  sky.animate([{ opacity: 1 }, { opacity: 0 }], 400).finished.finally(() => sky.remove());
};
