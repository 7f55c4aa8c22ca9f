// What the canvas says of its state, as functions of the state and the texts.
import { chosen, isLive, isPainting, labelOf, placeOf, side } from "../shared/state.js";
import { fill } from "../shared/values.js";
import { attention } from "./maps.js";

/**
 * @typedef {import("../types").State} State
 * @typedef {import("../types").Message} Message
 * @typedef {Record<string, any>} Texts
 */

const FAVORITE = 1.15; // times an even share, from which on a neighbor counts as a favorite

/** @type {(text: string, place: number[], values?: Record<string, unknown>) => string} */
const named = (text, [row, col], values = {}) => fill(text, { row: row + 1, col: col + 1, ...values });

/**
 * Where the painting was when a message was sent.
 * @param {Message} now
 * @param {Texts} texts
 */
const where = (now, texts) => {
  const { step, total_steps: steps, repaint: blocks } = now;
  if (blocks) {
    const text = blocks.length > 1 ? texts.repaintingMany : texts.repainting;
    return named(text, now.position || blocks[0], { step, steps, count: blocks.length });
  }
  if (now.position) return fill(texts.block, { index: now.index, blocks: now.num_blocks, step, steps });
  return fill(now.grid === 1 ? texts.whole : texts.parallel, { blocks: now.grid ** 2, step, steps });
};

/**
 * @param {Message} message
 * @param {number} wished steps of the next picture
 * @param {Texts} texts
 */
const outcome = (message, wished, texts) => {
  const seconds = message.seconds.toFixed(1);
  if (message.kind === "stored") return texts.stored;
  if (message.kind === "sketch") {
    return fill(message.total_steps < wished ? texts.sketch : texts.sketchWhole, { calls: message.calls });
  }
  if (message.back) return texts.back;
  const blocks = message.repaint;
  if (!blocks) return fill(texts.done, { seconds });
  return named(blocks.length > 1 ? texts.repaintedMany : texts.repainted, blocks[0], { seconds, count: blocks.length });
};

/**
 * @param {State} s
 * @param {Texts} texts
 */
const waiting = (s, texts) => {
  if (s.stopping) return texts.stopping;
  if (!s.line) return texts.starting;
  const { ahead, seconds } = s.line;
  if (!ahead) return fill(ahead === 0 ? texts.next : texts.full, { seconds });
  return fill(texts.inLine, { ahead, seconds });
};

/** @param {string} text */
const lowered = (text) => text.charAt(0).toLowerCase() + text.slice(1);

/**
 * The line under the picture.
 * @param {State} s
 * @param {Message | null} shown what of the film is on show
 * @param {Texts} texts
 * @returns {string}
 */
export const words = (s, shown, texts) => {
  if (s.away && isLive(s)) return texts.away;
  if (s.phase === "idle") return chosen(s).length ? texts.idle : texts.loading;
  if (s.phase === "starting") return waiting(s, texts);
  if (s.phase === "error") return s.message?.error || texts.failed;
  if (s.phase === "stopped" && !s.message) return texts.stoppedEarly;
  const message = /** @type {Message} */ (s.message);
  if (s.phase === "running") return where(message, texts);
  if (s.scrubbed !== null) return where(shown || message, texts);
  if (s.phase === "stopped") return fill(texts.stopped, { where: lowered(where(message, texts)) });
  return outcome(message, s.settings.steps, texts);
};

/**
 * What a view shows.
 * @param {State} s
 * @param {Message | null} shown
 * @param {number | null} heat the seam ratio
 * @param {Texts} texts
 * @returns {string}
 */
const viewed = (s, shown, heat, texts) => {
  if (s.view === "seams" && heat !== null) return fill(texts.seams, { ratio: heat.toFixed(2) });
  if (s.view === "won") {
    if (shown && !attention(shown).any) return texts.nobody;
    return s.large !== null && shown?.ids.includes(s.large) ? texts.wonOne : texts.won;
  }
  return s.view === "wipe" ? texts.wipeHint : "";
};

/**
 * The smaller line below it: what it cost, or what the view shows.
 * @param {State} s
 * @param {Message | null} shown
 * @param {number | null} heat the seam ratio
 * @param {Texts} texts
 * @returns {string}
 */
export const cost = (s, shown, heat, texts) => {
  const view = viewed(s, shown, heat, texts);
  if (view) return view;
  if (s.phase === "idle") return chosen(s).length ? texts.idleFaint : "";
  if (!isPainting(s) || !s.message || !shown || s.phase === "error" || s.phase === "starting") return "";
  const values = { calls: shown.calls, seconds: shown.seconds.toFixed(1), seed: shown.seed };
  const old = isLive(s) || s.scrubbed !== null ? 0 : outdated(s).size;
  if (old) return old === side(s) ** 2 ? texts.older : fill(texts.olderBlocks, { count: old });
  const timed = s.phase === "running" || s.scrubbed !== null;
  // what is stored took its time elsewhere
  return fill(timed && s.message.kind !== "stored" ? texts.calls : texts.callsSeed, values);
};

/**
 * How much of the painting is done, from 0 to 1.
 * @param {State} s
 */
export const progress = (s) => {
  const { message } = s;
  if (!isPainting(s) || !message || s.phase === "starting") return 0;
  const steps = (message.index - 1) * message.total_steps + message.step;
  return steps / (message.num_blocks * message.total_steps);
};

/**
 * What a block looks like: "waiting", "active" or "done".
 * @param {State} s
 * @param {Message | null} shown
 * @param {number} at its number
 */
export const looks = (s, shown, at) => {
  if (!shown) return "waiting";
  const finished = s.phase === "done" && s.scrubbed === null;
  if (shown.active[at] === "1" && !finished) return "active";
  return shown.done[at] === "1" ? "done" : "waiting";
};

/** @param {number[]} ids */
const asSet = (ids) => [...ids].sort((a, b) => a - b).join();

/**
 * Numbers of the blocks that were painted with other neighbors than they would be now.
 * @param {State} s
 * @returns {Set<number>}
 */
export const outdated = (s) => {
  const [{ message }, now] = [s, chosen(s)];
  if (!message?.grid || !now.length) return new Set();
  const heard = attention(message);
  const places = Array.from({ length: side(s) ** 2 }, (_, at) => at);
  return new Set(places.filter((at) => {
    const place = placeOf(s, at);
    const own = place.join();
    const known = heard.shares(place[0], place[1]).map(({ id }) => id);
    const then = known.length ? known : message.own[own] || message.used;
    return asSet(then) !== asSet(s.neighbors.blocks[own] || now);
  }));
};

/**
 * A picture by its number, and its class where that is known.
 * @type {(s: State, item: number, texts: Texts) => string}
 */
const pictured = (s, item, texts) => {
  const label = s.neighbors.hits.find(({ id }) => id === item)?.label ?? labelOf(s, item);
  return fill(label ? texts.pictureClass : texts.picture, { item, label });
};

/**
 * How large a share is beside an even one.
 * @type {(times: number, texts: Texts) => string}
 */
const timesEven = (times, texts) => {
  const whole = texts.times[Math.round(times)];
  if (whole && Math.abs(times - Math.round(times)) < 0.1) return whole;
  return fill(texts.timesMore, { times: times.toFixed(1) });
};

/** @param {number} share */
const percentOf = (share) => Math.round(100 * share);

/**
 * Whom a block listened to, in a sentence.
 * @param {State} s
 * @param {Message | null} shown
 * @param {number[]} place
 * @param {Texts} texts
 */
export const explained = (s, shown, [row, col], texts) => {
  if (!shown) return "";
  const heard = attention(shown);
  if (!heard.any) return texts.nobody;
  const shares = heard.shares(row, col).sort((a, b) => b.share - a.share);
  if (!shares.length) return "";
  const [{ id, share }, next] = shares;
  const picture = pictured(s, id, texts);
  if (!next) return fill(texts.alone, { picture });
  const even = 1 / shares.length;
  const values = { picture, percent: percentOf(share), even: Number((100 * even).toFixed(1)),
    times: timesEven(share / even, texts), other: pictured(s, next.id, texts), second: percentOf(next.share) };
  return fill(share < FAVORITE * even ? texts.nobodyMost : texts.mostly, values);
};

/**
 * The name of a block for those who do not see it.
 * @param {State} s
 * @param {Message | null} shown
 * @param {number} at
 * @param {Texts} texts
 */
export const cellName = (s, shown, at, texts) => {
  const place = placeOf(s, at);
  const own = s.neighbors.blocks[place.join()];
  const name = named(texts.cell, place, { state: texts.cellStates[looks(s, shown, at)] });
  const whole = own ? `${name}, ${fill(texts.cellOwn, { items: own.join(", ") })}` : name;
  const heard = looks(s, shown, at) === "done" && !isLive(s) ? explained(s, shown, place, texts) : "";
  return heard ? `${whole}. ${heard}` : whole;
};

/**
 * The name of the repaint button.
 * @param {State} s
 * @param {Texts} texts
 */
export const repaintName = (s, texts) =>
  (s.picked.size > 1 ? fill(texts.repaintMany, { count: s.picked.size }) : texts.repaint);

/**
 * The name of the block in focus.
 * @param {State} s
 * @param {number[]} place
 * @param {Texts} texts
 */
export const blockName = (s, place, texts) =>
  (side(s) === 1 ? texts.focusWhole : named(texts.focus, place));

/**
 * Why there is no film of a finished block.
 * @param {Message} message
 * @param {number[]} place
 * @param {{reel(run: string): Message[]}} film
 * @param {Texts} texts
 */
export const withoutFilm = (message, [row, col], film, texts) => {
  if (message.state !== "done") return "";
  const kept = message.repaint && !message.repaint.some(([r, c]) => r === row && c === col);
  if (kept) return message.before && film.reel(message.before).length ? texts.stripKept : texts.stripKeptOnly;
  if (film.reel(message.run).length > 1) return "";
  return message.kind === "sketch" ? texts.stripSketch : texts.stripNone;
};
