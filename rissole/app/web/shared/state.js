// The page's state, and what each event makes of it. Nothing here touches the page: `reduce` gives
// a new state and leaves the old one alone.
import { E } from "./events.js";
import { whole } from "./values.js";

/**
 * @typedef {import("../types").State} State
 * @typedef {import("../types").Neighbors} Neighbors
 * @typedef {import("../types").Hit} Hit
 * @typedef {import("../types").Place} Place
 * @typedef {import("../types").Message} Message
 */

/** Any seed: a new one every time. The second is how other tools ask for it. */
export const ANY_SEED = Object.freeze(["", "-1"]);
export const VIEWS = Object.freeze(/** @type {const} */ (["picture", "won", "seams", "wipe"]));

/** @type {State} */
export const initial = Object.freeze({
  memory: null,
  classes: null,
  neighbors: { query: null, hits: [], blocks: {}, source: "" },
  most: 16,
  held: null,
  notice: { name: "hint", values: {} },
  reading: null,
  phase: "idle",
  message: null,
  finished: null,
  earlier: false,
  grid: 4,
  settings: { order: "parallel", steps: 20, guidance: 1, strength: 1, seed: "0" },
  follows: false,
  wished: 0,
  sketching: false,
  sameSeed: false,
  pinned: null,
  picked: new Set(),
  several: false,
  view: "picture",
  large: null,
  influence: null,
  scrubbed: null,
  playing: false,
  muted: false,
  deadRun: null,
  line: null,
  stopping: false,
  away: false,
});

// ---- what the state says -------------------------------------------------------------------------

/** @param {State} s */
export const isLive = (s) => s.phase === "starting" || s.phase === "running";
/** @param {State} s */
export const isPainting = (s) => Boolean(s.message?.grid);
/** @param {State} s */
export const side = (s) => (isPainting(s) ? /** @type {Message} */ (s.message).grid : s.grid);
/** @param {State} s */
export const chosen = (s) => s.neighbors.hits.filter((hit) => hit.on).map((hit) => hit.id);

/**
 * Where the painting is.
 * @param {State} s
 */
export const brush = (s) => (isPainting(s) && s.phase === "running" ? s.message?.position : null);

/**
 * The block in focus: the one that was chosen, else the one that is painted.
 * @param {State} s
 * @returns {Place}
 */
export const focus = (s) => {
  const middle = side(s) === 4 ? 1 : 0;
  const painted = isPainting(s) ? s.message?.repaint?.[0] || s.message?.position : null;
  const [row, col] = s.pinned || brush(s) || painted || [middle, middle];
  return [Math.min(row, side(s) - 1), Math.min(col, side(s) - 1)];
};

/**
 * @param {State} s
 * @param {number} at number of a block
 * @returns {Place}
 */
export const placeOf = (s, at) => [Math.floor(at / side(s)), at % side(s)];

/**
 * What a repaint would paint.
 * @param {State} s
 */
export const targets = (s) =>
  (s.picked.size ? [...s.picked].map((at) => placeOf(s, at)) : [focus(s)]);

/**
 * Whether the picture on show is finished, and painted in this visit.
 * @param {State} s
 */
export const isSettled = (s) => s.phase === "done" && !s.message?.kind;
/** @param {State} s */
export const canRepaint = (s) => isSettled(s) && (s.message?.grid ?? 0) > 1;
/** @param {State} s */
export const canUndo = (s) => {
  if (s.message?.kind === "sketch") return s.finished !== null && !isLive(s);
  if (s.phase === "done") return (s.message?.kept ?? 0) > 1;
  return ["stopped", "error"].includes(s.phase) && s.finished !== null;
};

/**
 * Whether the next picture is to be compared with the one on show, and so keeps its seed: it
 * finishes a sketch, or other neighbors were found since.
 * @param {State} s
 */
export const keepsSeed = (s) => {
  if (!s.follows || !s.message) return false;
  const sorted = (/** @type {number[]} */ ids) => [...ids].sort().join();
  return s.message.kind === "sketch" || sorted(chosen(s)) !== sorted(s.message.used ?? []);
};

/** The neighbors of single blocks, by "row,col", of a picture with so many blocks per side. @param {State} s */
export const ownBlocks = (s, grid = s.grid) => Object.fromEntries(Object.entries(s.neighbors.blocks)
  .filter(([at]) => at.split(",").every((place) => Number(place) < grid)));

/**
 * What the page is set to paint.
 * @param {State} s
 * @param {boolean} sketch
 * @returns {import("../types").Wish}
 */
export const wishOf = (s, sketch) => {
  const blocks = ownBlocks(s), strength = Object.keys(blocks).length ? s.settings.strength : 1;
  return { ...s.settings, strength, number: s.wished, sketch, grid: s.grid, neighbors: chosen(s), blocks };
};

/**
 * Whether there is something to see in a view.
 * @param {State} s
 * @param {string} view
 */
export const canView = (s, view) => {
  if (view === "picture") return true;
  if (!isPainting(s) || s.phase === "starting" || s.phase === "error") return false;
  if (view === "won") return true;
  if (view === "seams") return s.phase !== "running" && side(s) > 1;
  return s.phase === "done" && s.earlier;
};

/**
 * The class of a picture, where it is known.
 * @param {State} s
 * @param {number} item
 * @returns {string | null}
 */
export const labelOf = (s, item) => (s.classes && s.memory?.classes[s.classes[item]]) || null;

// ---- neighbors -----------------------------------------------------------------------------------

/** @param {string} name a text */
const notice = (name, values = {}) => ({ notice: { name, values } });

/**
 * @param {State} s
 * @param {Partial<Neighbors>} changes
 * @returns {State}
 */
const changed = (s, changes) => ({ ...s, neighbors: { ...s.neighbors, ...changes } });

/**
 * @param {State} s
 * @param {number} id
 * @param {(hit: Hit) => Partial<Hit>} change
 */
const edited = (s, id, change) =>
  changed(s, { hits: s.neighbors.hits.map((hit) => (hit.id === id ? { ...hit, ...change(hit) } : hit)) });

/**
 * @param {State} s
 * @param {number} id
 */
const leavesNone = (s, id) => !s.neighbors.hits.some((hit) => hit.on && hit.id !== id);

/** @type {Record<string, (s: State, detail: any) => State>} */
const ofNeighbors = {
  [E.FOUND]: (s, value) => ({ ...changed(s, { query: null, hits: [], blocks: {}, ...value }),
    ...notice("hint"), reading: null }),
  [E.READING]: (s, reading) => ({ ...s, reading, ...(reading === "neighbor" ? notice("reading") : {}) }),
  [E.UNREAD]: (s) => ({ ...s, reading: null, ...notice("hint") }),
  [E.SEARCHING]: (s) => ({ ...s, ...notice("searching") }),
  [E.UNMOVED]: (s) => ({ ...s, ...notice("hint") }),
  [E.HOLD]: (s, id) => ({ ...s, held: s.held === id ? null : id }),
  [E.RELEASE]: (s) => ({ ...s, held: null }),
  [E.ESCAPE]: (s) => ({ ...s, held: null }),

  [E.TOGGLE]: (s, id) => {
    const hit = s.neighbors.hits.find((one) => one.id === id);
    if (hit?.on && leavesNone(s, id)) return { ...s, ...notice("keep") };
    return { ...edited(s, id, ({ on }) => ({ on: !on })), ...notice("hint") };
  },
  [E.PIN]: (s, id) => edited(s, id, ({ pin }) => ({ pin: !pin })),
  [E.MOVE]: (s, { id, to }) => {
    const hit = s.neighbors.hits.find((one) => one.id === id);
    if (!hit) return s;
    const hits = s.neighbors.hits.filter((one) => one !== hit);
    hits.splice(Math.max(0, to), 0, hit);
    return changed(s, { hits });
  },
  [E.ADD]: (s, id) => {
    const { hits } = s.neighbors;
    if (hits.some((hit) => hit.id === id)) return { ...s, ...notice("already", { item: id }) };
    if (hits.length >= s.most) return { ...s, ...notice("full", { most: s.most }) };
    const hit = { id, score: null, on: true, pin: true, twin: null, label: labelOf(s, id) };
    return { ...changed(s, { hits: [...hits, hit] }), ...notice("added", { item: id }) };
  },
  [E.REMOVE]: (s, id) => {
    if (leavesNone(s, id)) return { ...s, ...notice("keep") };
    return { ...changed(s, { hits: s.neighbors.hits.filter((hit) => hit.id !== id) }), held: null };
  },

  // neighbors of single blocks
  [E.ASSIGN]: (s, { id, row, col }) => {
    const at = `${row},${col}`;
    const { [at]: own = [], ...rest } = s.neighbors.blocks;
    const next = own.includes(id) ? own.filter((other) => other !== id) : [...own, id].slice(-s.most);
    return changed(s, { blocks: next.length ? { ...rest, [at]: next } : rest });
  },
  [E.CLEAR]: (s, at) => {
    const { [at ?? ""]: _, ...rest } = s.neighbors.blocks;
    return changed(s, { blocks: at ? rest : {} });
  },
};

// ---- the picture ---------------------------------------------------------------------------------

/**
 * @param {State} s
 * @returns {State}
 */
const waiting = (s) => ({ ...s, phase: "starting", wished: s.wished + 1, sketching: false, muted: false,
  stopping: false, line: null, scrubbed: null, playing: false, view: "picture" });

/**
 * Another database was chosen: what is on show was painted from pictures of the one before.
 * @param {State} s
 * @returns {State}
 */
const cleared = (s) => (isLive(s) ? s : { ...s, phase: "idle", message: null, finished: null,
  pinned: null, scrubbed: null, playing: false, view: "picture", picked: new Set() });

/**
 * @param {State} s
 * @param {string | null} error null where the server said nothing
 * @returns {State}
 */
const failed = (s, error) => ({ ...s, phase: "error", scrubbed: null, playing: false,
  message: /** @type {Message} */ ({ ...(s.message ?? s.finished), error }) });

/**
 * Whether a wish is still the newest one, and nothing else is being painted.
 * @param {State} s
 * @param {number} wish
 */
const isWished = (s, wish) => wish === s.wished && !isLive(s);

/**
 * Whether a message is one of the picture that is wanted: not of a run that was stopped.
 * @param {State} s
 * @param {Message} value
 */
export const isFrame = (s, { state, run, wish }) => {
  if (!["running", "done"].includes(state)) return false;
  return wish === undefined ? !s.muted && !(run && run === s.deadRun) : isWished(s, wish);
};

/**
 * @param {State} s
 * @param {Message} value
 * @returns {State}
 */
const received = (s, value, earlier = false) => {
  if (value.state === "idle") return cleared(s);
  if (value.state === "waiting") return s.phase === "starting" ? { ...s, line: value } : s;
  if (value.state === "error") {
    const late = value.wish === undefined ? s.muted : !isWished(s, value.wish);
    return late ? s : { ...failed(s, value.error), sketching: false };
  }
  if (!isFrame(s, value)) return s;
  const phase = /** @type {import("../types").Phase} */ (value.state);
  const shown = { ...s, phase, message: value, earlier, scrubbed: null, playing: false, sketching: false };
  if (value.state !== "done") return shown;
  return { ...shown, finished: value.kind ? s.finished : value, picked: new Set(), several: false };
};

/**
 * @param {State} s
 * @returns {State}
 */
const stopped = (s) => {
  if (!isLive(s)) return s;
  const untouched = s.phase === "starting" && s.message !== null; // a repaint without a first step
  return { ...s, muted: true, deadRun: untouched ? null : s.message?.run || null,
    phase: untouched ? "done" : "stopped" };
};

/**
 * @param {State} s
 * @param {number} at
 */
const pick = (s, at) => {
  // like files in a list: a tap with Shift adds to the one before, "choose several" begins with none
  const first = !s.several && !s.picked.size && s.pinned ? [s.pinned[0] * side(s) + s.pinned[1]] : [];
  const picked = new Set([...s.picked, ...first]);
  if (picked.has(at) && picked.size > 1) picked.delete(at);
  else picked.add(at);
  return { ...s, picked, pinned: placeOf(s, at) };
};

/**
 * @param {State} s
 * @param {{from: Place, to: Place}} corners
 */
const area = (s, { from, to }) => {
  const [rows, cols] = [0, 1].map((n) => [from[n], to[n]].sort((a, b) => a - b));
  const picked = new Set(/** @type {number[]} */ ([]));
  for (let row = rows[0]; row <= rows[1]; row += 1) {
    for (let col = cols[0]; col <= cols[1]; col += 1) picked.add(row * side(s) + col);
  }
  return { ...s, picked, pinned: to };
};

/** @type {Record<string, (s: State, detail: any) => State>} */
const ofPicture = {
  [E.START]: (s) => ({ ...waiting(s), sameSeed: keepsSeed(s), pinned: null, picked: new Set(), several: false,
    held: null, message: null }),
  [E.REPAINTING]: (s, pinned) => ({ ...waiting(s), pinned, held: null }),
  [E.WISH]: (s) => ({ ...s, wished: s.wished + 1, sketching: true }),
  [E.RETURNING]: (s) => ({ ...s, muted: false }),
  [E.WAITING]: (s, id) => ({ ...s, stopping: id === "rs-stop" }),
  [E.MESSAGE]: (s, { value, earlier }) => received(s, value, earlier),
  [E.STOP]: stopped,
  [E.FAILED]: (s) => (isLive(s) ? failed(s, null) : s),

  [E.FOCUS]: (s, pinned) => ({ ...s, pinned }),
  [E.CHOOSE]: (s, pinned) => ({ ...s, pinned, picked: new Set() }),
  [E.PICK]: pick,
  [E.AREA]: area,
  [E.SEVERAL]: (s) => ({ ...s, several: !s.several, picked: s.several ? new Set() : s.picked }),
  [E.VIEW]: (s, view) => ({ ...s, view }),
  [E.LARGE]: (s, id) => ({ ...s, large: s.large === id ? null : id }),
  [E.SCRUB]: (s, { place, last }) =>
    ({ ...s, scrubbed: place === null || place >= last ? null : Math.max(0, place) }),
  [E.INFLUENCE]: (s, influence) => ({ ...s, influence }),
  [E.PLAY]: (s, playing) => ({ ...s, playing }),
  [E.GRID]: (s, value) => {
    const grid = whole(value, 1, 4);
    return grid === s.grid ? s : { ...s, grid, pinned: isPainting(s) ? s.pinned : null };
  },
};

// ---- all of it -----------------------------------------------------------------------------------

/** @type {Record<string, (s: State, detail: any) => State>} */
const ofPage = {
  [E.SETUP]: (s, { source, ...rest }) => changed({ ...s, ...rest }, source ? { source } : {}),
  [E.MEMORY]: (s, memory) => ({ ...s, memory,
    classes: memory.source === s.memory?.source ? s.classes : null }),
  [E.CLASSES]: (s, classes) => ({ ...s, classes }),
  [E.SETTINGS]: (s, { seed, ...rest }) => {
    const any = ANY_SEED.includes(String(seed ?? "").trim()); // none of its own: the last one is kept
    return { ...s, settings: { ...s.settings, ...rest, seed: any ? s.settings.seed : seed } };
  },
  [E.LIVE]: (s, follows) => ({ ...s, follows }),
  [E.AWAY]: (s, away) => ({ ...s, away }),
};

const all = { ...ofPage, ...ofNeighbors, ...ofPicture };

/**
 * What cannot stay as it was: places in another grid, a view or a neighbor that is not there any
 * more.
 * @param {State} s
 * @param {State} before
 * @returns {State}
 */
const settled = (s, before) => ({
  ...s,
  picked: side(s) === side(before) ? s.picked : new Set(),
  view: canView(s, s.view) ? s.view : "picture",
  held: s.neighbors.hits.some(({ id }) => id === s.held) ? s.held : null,
});

/**
 * @param {State} before
 * @param {import("../types").Event} event
 * @returns {State}
 */
export const reduce = (before, { type, detail }) => {
  const next = all[type]?.(before, detail) ?? before;
  return next === before ? before : settled(next, before);
};
