// The panel beside the picture: one block, whom it listened to, what it cost, how it came about.
import { carry } from "../shared/carry.js";
import { hide, make, parts, penOf, put, showBlock, write } from "../shared/dom.js";
import { E } from "../shared/events.js";
import { brush, chosen, focus, isLive, isPainting, isSettled, side } from "../shared/state.js";
import { state, tell } from "../shared/store.js";
import { fill, thumb } from "../shared/values.js";
import * as maps from "./maps.js";
import { blockName, explained, withoutFilm } from "./words.js";

/**
 * @typedef {import("../types").State} State
 * @typedef {import("../types").Message} Message
 * @typedef {{n: number | null, id: number, share: number | null}} Seen
 */

const MOMENTS = 8;

/**
 * The neighbors that the block in focus sees, with its shares: null before it is painted.
 * @param {State} s
 * @param {Message | null} message
 * @returns {Seen[]}
 */
export const listened = (s, message) => {
  const [row, col] = focus(s);
  const at = `${row},${col}`;
  const plain = (/** @type {number[]} */ ids) => ids.map((id) => ({ n: null, id, share: null }));
  if (!message) return plain(s.neighbors.blocks[at] || chosen(s));
  const shares = maps.attention(message).shares(row, col);
  return shares.length ? shares : plain(message.own[at] || message.used);
};

/**
 * The one to see large: as the visitor chose, else the one that is listened to most.
 * @param {Seen[]} heard
 * @param {number | null} large
 * @returns {Seen | undefined}
 */
const favorite = (heard, large) => heard.find(({ id }) => id === large)
  || heard.reduce((best, one) => ((one.share ?? 0) > (best?.share ?? -1) ? one : best), heard[0]);

/** @param {number | null} share */
const percentOf = (share) => (share === null ? null : Math.round(100 * share));

/**
 * @param {HTMLElement} element
 * @param {Record<string, any>} texts
 * @param {import("./film.js").Film} film
 */
export const inspectorOf = (element, texts, film) => {
  const { part } = parts(element);
  const list = part(".rs-tiles");
  let stripKey = "";
  // where the picture's neighbors are, which may be another database than the one chosen now
  const source = () => (isPainting(state()) && state().message?.source) || state().neighbors.source;

  /** @type {(node: HTMLElement, id: number) => void} */
  const crop = (node, id) => {
    const [n, place] = [side(state()), focus(state())];
    const key = [source(), id, n, ...place].join();
    if (node.dataset.crop === key) return;
    node.dataset.crop = key;
    showBlock(node, thumb(source(), id), n, place);
  };

  // ---- the neighbors' blocks -------------------------------------------------------------------

  /** @param {Seen} seen */
  const tile = ({ id }) => {
    const node = make("li", "rs-tile");
    const button = make("button", "rs-tile-pick", { type: "button", "data-id": id, "data-src": thumb(source(), id) });
    const chip = make("span", "rs-chip", { "aria-hidden": "true" });
    const bar = make("span", "rs-weight", { "aria-hidden": "true" });
    bar.append(make("span"), make("i"));
    button.append(make("span", "rs-crop"), chip, bar, make("span", "rs-percent"), make("span", "rs-effect"));
    button.addEventListener("click", () => tell(E.LARGE, id));
    node.append(button);
    return node;
  };

  /** @param {Seen[]} heard */
  const buildTiles = (heard) => {
    const ids = [source(), ...heard.map(({ id }) => id)].join();
    if (list.dataset.ids === ids) return;
    list.dataset.ids = ids;
    list.classList.toggle("rs-many", heard.length > 8);
    list.replaceChildren(...heard.map(tile));
  };

  /** @type {(node: HTMLElement, seen: Seen, most: number, even: number) => void} */
  const renderTile = (node, { n, id, share }, most, even) => {
    const { part: piece } = parts(node);
    crop(piece(".rs-crop"), id);
    const percent = percentOf(share);
    node.classList.toggle("rs-most", share !== null && share === most);
    const bar = piece(".rs-weight span");
    bar.style.transform = `scaleX(${share ?? 0})`;
    piece(".rs-weight i").style.left = `${100 * even}%`;
    bar.style.background = n === null ? "" : maps.color(n);
    const numbered = n !== null && state().view === "won";
    const chip = piece(".rs-chip");
    hide(chip, !numbered);
    write(chip, n === null ? "" : n + 1);
    if (numbered) Object.assign(chip.style, maps.chip(n));
    const without = measured()?.levels[id];
    write(piece(".rs-percent"), percent === null ? "" : `${percent} %`);
    write(piece(".rs-effect"), without === undefined ? "" : fill(texts.effect, { levels: without }));
    const label = nameOf(id, percent);
    put(piece(".rs-tile-pick"), "aria-pressed", state().large === id);
    put(piece(".rs-tile-pick"), "aria-label", numbered ? `${n + 1}: ${label}` : label);
  };

  /** @type {(id: number, percent: number | null) => string} */
  const nameOf = (id, percent) =>
    fill(percent === null ? texts.tileIdle : texts.tile, { item: id, percent });

  /** @param {Seen[]} heard */
  const renderTiles = (heard) => {
    buildTiles(heard);
    const most = Math.max(...heard.map(({ share }) => share ?? 0));
    list.classList.toggle("rs-unheard", heard.every(({ share }) => share === null));
    heard.forEach((one, n) =>
      renderTile(/** @type {HTMLElement} */ (list.children[n]), one, most, 1 / heard.length));
  };

  // ---- the pair: the block, and the same block of one neighbor ----------------------------------

  /** @param {Seen[]} heard */
  const renderPair = (heard) => {
    write(part(".rs-focus-name"), blockName(state(), focus(state()), texts));
    const other = favorite(heard, state().large);
    hide(part(".rs-other"), !other);
    if (!other) return;
    const box = part(".rs-other-crop");
    crop(box, other.id);
    const text = nameOf(other.id, percentOf(other.share));
    put(box, "aria-label", text);
    write(part(".rs-other figcaption"), text);
  };

  /** @param {Message | null} message */
  const why = (message) => {
    const [row, col] = focus(state());
    const spent = message?.spent?.[row * message.grid + col];
    if (!spent) {
      if (state().pinned && isLive(state())) return texts.pinned;
      return brush(state()) ? texts.following : "";
    }
    const [calls, ms, shared] = spent;
    const values = { calls, shared, ms: ms.toLocaleString("en") };
    return fill(shared > 1 ? texts.spentTogether : texts.spent, values);
  };

  // ---- how the block came about ----------------------------------------------------------------

  const renderStrip = () => {
    const s = state();
    const { message } = s;
    const box = part(".rs-moments");
    const place = focus(s);
    const at = message ? place[0] * message.grid + place[1] : 0;
    const ready = message && !isLive(s);
    const moments = ready ? film.moments(message.run, at, MOMENTS) : [];
    const without = ready && moments.length < 2 ? withoutFilm(message, place, film, texts) : "";
    hide(box, moments.length < 2 && !without);
    const key = box.hidden ? "" : [message?.run, at, moments.length, s.view, without].join();
    if (message && key !== stripKey && !box.hidden) drawStrip(without ? [] : moments, place, message);
    stripKey = key;
    if (without) write(part(".rs-moments .rs-hint"), without);
    for (const button of /** @type {NodeListOf<HTMLElement>} */ (box.querySelectorAll("button"))) {
      button.setAttribute("aria-pressed", String(Number(button.dataset.place) === s.scrubbed));
    }
  };

  /** @type {(moments: number[], place: number[], message: Message) => void} */
  const drawStrip = (moments, place, message) => {
    const reel = film.reel(message.run);
    part(".rs-moments .rs-hint").textContent = texts.strip;
    part(".rs-moments ol").replaceChildren(...moments.map((n) => moment(n, reel, place)));
  };

  /** @type {(n: number, reel: Message[], place: number[]) => HTMLElement} */
  const moment = (n, reel, [row, col]) => {
    const { step, total_steps: steps, frame, grid } = reel[n];
    const item = make("li", "");
    const button = make("button", "", { type: "button", "data-place": n });
    button.setAttribute("aria-label", fill(texts.moment, { step, steps }));
    const small = make("canvas", "", { width: 48, height: 48 });
    film.image(frame).then((image) => {
      if (!image) return;
      const size = image.width / grid;
      penOf(small).drawImage(image, col * size, row * size, size, size, 0, 0, 48, 48);
    });
    button.append(small);
    button.addEventListener("click", () => tell(E.SCRUB, { place: n, last: reel.length - 1 }));
    item.append(button);
    return item;
  };

  // ---- what each neighbor did to it -------------------------------------------------------------

  /** What was measured of the block in focus. */
  const measured = () => {
    const { influence, message } = state();
    const here = influence?.run === message?.run && influence?.at === focus(state()).join();
    return here ? influence : null;
  };
  const asking = make("button", "rs-measure", { type: "button" });
  asking.addEventListener("click", () => {
    const [row, col] = focus(state());
    const run = state().message?.run ?? "";
    tell(E.INFLUENCE, { run, at: `${row},${col}`, levels: {}, done: false });
    tell(E.MEASURE, { run, row, col });
  });
  part(".rs-tools").append(asking);

  /** @param {Seen[]} heard */
  const renderEffects = (heard) => {
    const { influence } = state();
    const now = measured();
    const known = Object.keys(now?.levels ?? {}).length;
    // a sketch and a stored painting are not at hand to paint again
    hide(asking, !isSettled(state()) || heard.length < 2 || heard[0].share === null || Boolean(now));
    asking.disabled = influence !== null && !influence.done;
    write(asking, texts.measure);
    const values = { known, count: heard.length };
    write(part(".rs-measured"), now ? fill(now.done ? texts.measured : texts.measuring, values) : "");
  };

  /** @param {Message | null} shown */
  const render = (shown) => {
    const heard = listened(state(), shown);
    renderTiles(heard);
    renderPair(heard);
    renderStrip();
    renderEffects(heard);
    write(part(".rs-focus-why"), why(shown));
    const known = heard.some(({ share }) => share !== null);
    write(part(".rs-listens"), known ? texts.listens : texts.sees);
    write(part(".rs-explained"), explained(state(), shown, focus(state()), texts));
  };

  carry(list, ".rs-tile-pick");
  return { render };
};
