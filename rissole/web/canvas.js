// The live canvas. The server sends one small message per frame (see `frame` in ui/frames.py): the
// picture so far as WebP, where the painting is, and the attention as bytes. The template never
// changes, so everything drawn here survives an update.
const { fill, make, thumb, arrow, whole, tell, hear, phase } = window.rissole;
const { texts, source } = props;
const part = (name) => element.querySelector(name);
const pixels = part(".rs-pixels");
pixels.width = pixels.height = whole(props.size, 16, 1024);
const pen = pixels.getContext("2d");
const cells = part(".rs-cells");
const LIVE = ["starting", "running"];

let state = "idle"; // idle, starting, running, done, stopped or error
let message = null; // the last one of the picture on show
let finished = null; // the last one of a finished picture
let chosen = []; // neighbours that are switched on now
let grid = whole(props.grid, 1, 4);
let pinned = null; // the block the visitor chose, [row, col]
let deadRun = null; // the run that was stopped: late frames of it are dropped
let muted = false;
let drawn = 0; // frames are decoded off screen and may finish out of order
let asked = 0;
let queued = false; // Generate was pressed a while ago, and no step has come yet
let patience = null;

// ---- what is on show -------------------------------------------------------------------------

const painting = () => Boolean(message?.grid);
const side = () => (painting() ? message.grid : grid);
const middle = () => { const at = side() === 4 ? 1 : 0; return [at, at]; };
const brush = () => (painting() && state === "running" ? message.position : null);
const focus = () => {
  const last = side() - 1;
  const [row, col] = pinned || brush() || (painting() && message.position) || middle();
  return [Math.min(row, last), Math.min(col, last)];
};

// The neighbours the block in focus sees, and its shares of them: null before it is painted.
const listened = () => {
  if (!painting()) return { ids: chosen, shares: null };
  const [row, col] = focus();
  const bytes = atob(message.attention);
  const first = (row * message.grid + col) * message.ids.length;
  const values = message.ids.map((_, n) => bytes.charCodeAt(first + n) || 0);
  const total = values.reduce((a, b) => a + b, 0);
  if (!total) return { ids: message.used, shares: null };
  const seen = values.filter((value) => value > 0);
  return {
    ids: message.ids.filter((_, n) => values[n] > 0),
    shares: seen.map((value) => value / total),
  };
};

// ---- drawing ---------------------------------------------------------------------------------

const load = async (address) => {
  const image = new Image();
  image.src = address;
  await image.decode();
  return image;
};

// While a block is repainted only that block is drawn: the others stay as they were, to the pixel.
const drawFrame = async ({ frame, state: stage, repaint: block, grid: n }) => {
  const order = ++asked;
  const image = await load(frame).catch(() => null);
  if (!image || order < drawn) return;
  drawn = order;
  pixels.classList.remove("rs-faint");
  pen.globalAlpha = 1;
  const one = stage === "running" && block;
  const [row, col] = one ? block : [0, 0];
  const size = one ? pixels.width / n : pixels.width;
  const area = [col * size, row * size, size, size];
  pen.drawImage(image, ...area, ...area);
  pixels.dataset.frames = whole(pixels.dataset.frames, 0, 1e9) + 1;
  renderBlock();
};

// Before the first step: the average of the neighbours, faint. Layer n at 1 / n is the mean.
const drawCommon = async () => {
  const order = ++asked;
  const images = await Promise.all(chosen.map((id) => load(thumb(source, id)).catch(() => null)));
  if (order < drawn || painting()) return;
  drawn = order;
  pixels.classList.add("rs-faint");
  images.filter(Boolean).forEach((image, n) => {
    pen.globalAlpha = 1 / (n + 1);
    pen.drawImage(image, 0, 0, pixels.width, pixels.height);
  });
  renderBlock();
};

const renderBlock = () => {
  const [row, col] = focus();
  const size = pixels.width / side();
  const block = part(".rs-block");
  const to = block.getContext("2d");
  to.imageSmoothingQuality = "high";
  to.drawImage(pixels, col * size, row * size, size, size, 0, 0, block.width, block.height);
  block.classList.toggle("rs-faint", pixels.classList.contains("rs-faint"));
};

// ---- the grid of blocks ----------------------------------------------------------------------

const pin = (position) => {
  pinned = position;
  render();
};

const buildCells = () => {
  const n = side();
  if (Number(cells.dataset.grid) === n) return;
  cells.dataset.grid = n;
  cells.style.setProperty("--n", n);
  cells.replaceChildren(...Array.from({ length: n }, (_, row) => {
    const line = make("div", "rs-row", { role: "row" });
    line.append(...Array.from({ length: n }, (__, col) =>
      make("div", "rs-cell", { role: "gridcell", "data-at": row * n + col })));
    return line;
  }));
};

const cellAt = (index) => cells.querySelector(`[data-at="${index}"]`);

const renderCells = () => {
  const n = side();
  const [row, col] = focus();
  for (const cell of cells.querySelectorAll(".rs-cell")) {
    const at = Number(cell.dataset.at);
    const looks = !painting() || message.done[at] === "1" ? "done"
      : message.active[at] === "1" && state === "running" ? "active" : "waiting";
    const here = at === row * n + col;
    cell.dataset.state = painting() ? looks : "idle";
    cell.setAttribute("aria-selected", String(here));
    cell.tabIndex = here ? 0 : -1;
    cell.setAttribute("aria-label", fill(texts.cell, {
      row: Math.floor(at / n) + 1, col: (at % n) + 1,
      state: texts.cellStates[painting() ? looks : "waiting"],
    }));
  }
};

cells.setAttribute("aria-label", texts.grid);
cells.addEventListener("click", (event) => {
  const cell = event.target.closest(".rs-cell");
  if (!cell) return;
  const at = Number(cell.dataset.at);
  pin([Math.floor(at / side()), at % side()]);
  cell.focus({ preventScroll: true });
});
element.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key.toLowerCase() === "r") repaint();
  if (event.key.toLowerCase() === "z") undo();
});
cells.addEventListener("keydown", (event) => {
  const cell = event.target.closest(".rs-cell");
  const at = cell && arrow(event.key, Number(cell.dataset.at), side(), side() ** 2);
  if (at === null || at === undefined) return;
  event.preventDefault();
  pin([Math.floor(at / side()), at % side()]);
  cellAt(at).focus();
});

// ---- the focus: one block beside the same block of every neighbour ---------------------------

const buildTiles = ({ ids }) => {
  const list = part(".rs-tiles");
  if (list.dataset.ids === ids.join()) return;
  list.dataset.ids = ids.join();
  list.classList.toggle("rs-many", ids.length > 8);
  list.replaceChildren(...ids.map((id) => {
    const tile = make("li", "rs-tile");
    const crop = make("div", "rs-crop");
    crop.style.backgroundImage = `url("${thumb(source, id)}")`;
    const bar = make("div", "rs-weight", { "aria-hidden": "true" });
    bar.append(make("span"));
    tile.append(crop, bar, make("span", "rs-percent"));
    return tile;
  }));
};

const renderTiles = ({ ids, shares }) => {
  const n = side();
  const [row, col] = focus();
  const most = shares ? Math.max(...shares) : 0;
  const place = (at) => (n > 1 ? `${(100 * at) / (n - 1)}%` : "0%");
  [...part(".rs-tiles").children].forEach((tile, index) => {
    const crop = tile.querySelector(".rs-crop");
    crop.style.backgroundSize = `${n * 100}%`;
    crop.style.backgroundPosition = `${place(col)} ${place(row)}`;
    const share = shares ? shares[index] : 0;
    tile.classList.toggle("rs-most", shares !== null && share === most);
    tile.querySelector(".rs-weight span").style.width = most ? `${(100 * share) / most}%` : "0";
    const percent = Math.round(100 * share);
    tile.querySelector(".rs-percent").textContent = shares ? `${percent} %` : "";
    tile.setAttribute("aria-label", fill(shares ? texts.tile : texts.tileIdle,
      { item: ids[index], percent }));
  });
};

const renderFocus = () => {
  const [row, col] = focus();
  part(".rs-focus-name").textContent = side() === 1
    ? texts.focusWhole : fill(texts.focus, { row: row + 1, col: col + 1 });
  const follows = !pinned && brush();
  part(".rs-focus-why").textContent = pinned ? texts.pinned : follows ? texts.following : "";
  part(".rs-follow").hidden = !(pinned && brush());
  part(".rs-listens").textContent = painting() ? texts.listens : texts.sees;
  part(".rs-repaint").hidden = !canRepaint();
  part(".rs-undo").hidden = !canUndo();
};

part(".rs-follow").textContent = texts.follow;
part(".rs-follow").addEventListener("click", () => pin(null));
part(".rs-repaint").textContent = texts.repaint;
part(".rs-repaint").addEventListener("click", () => repaint());
part(".rs-undo").textContent = texts.undo;
part(".rs-undo").addEventListener("click", () => undo());

// ---- progress --------------------------------------------------------------------------------

const named = (text, [row, col], values) => fill(text, { row: row + 1, col: col + 1, ...values });

const where = () => {
  if (message.repaint) {
    const { repaint: block, step, total_steps: steps } = message;
    return named(texts.repainting, block, { step, steps });
  }
  if (message.position) {
    return fill(texts.block, { index: message.index, blocks: message.num_blocks,
      step: message.step, steps: message.total_steps });
  }
  const text = message.grid === 1 ? texts.whole : texts.parallel;
  return fill(text, { blocks: message.grid ** 2, step: message.step, steps: message.total_steps });
};

const lowered = (text) => text.charAt(0).toLowerCase() + text.slice(1);

const words = () => {
  if (state === "idle") return texts.idle;
  if (state === "starting") return queued ? texts.queued : texts.starting;
  if (state === "error") return message?.error || texts.failed;
  if (state === "running") return where();
  if (state === "stopped") {
    return message ? fill(texts.stopped, { where: lowered(where()) }) : texts.stoppedEarly;
  }
  const seconds = message.seconds.toFixed(1);
  if (message.back) return texts.back;
  if (message.repaint) return named(texts.repainted, message.repaint, { seconds });
  return fill(texts.done, { seconds });
};

const cost = () => {
  if (state === "idle") return chosen.length ? texts.idleFaint : "";
  if (!painting() || state === "error" || state === "starting") return "";
  const values = { calls: message.calls, seconds: message.seconds.toFixed(1), seed: message.seed };
  const other = [...chosen].sort().join() !== [...message.used].sort().join();
  if (!LIVE.includes(state) && other && chosen.length) return texts.older;
  return fill(state === "running" ? texts.calls : texts.callsSeed, values);
};

const share = () => {
  if (!painting() || state === "starting") return 0;
  const steps = (message.index - 1) * message.total_steps + message.step;
  return steps / (message.num_blocks * message.total_steps);
};

let spoken = 0;
const announce = (text) => {
  // a screen reader cannot follow 15 frames a second: every change of state, else every 3 s
  const now = Date.now();
  if (state === "running" && now - spoken < 3000) return;
  spoken = now;
  part(".rs-announce").textContent = text;
};

const renderProgress = () => {
  const percent = Math.round(100 * share());
  part(".rs-bar span").style.width = `${percent}%`;
  part(".rs-bar").setAttribute("aria-valuenow", percent);
  part(".rs-words").textContent = words();
  part(".rs-cost").textContent = cost();
  announce(words());
};

const render = () => {
  part(".rs-canvas").dataset.state = state;
  phase(state);
  buildCells();
  renderCells();
  buildTiles(listened());
  renderTiles(listened());
  renderFocus();
  renderBlock();
  renderProgress();
};

// ---- what happens ----------------------------------------------------------------------------

const receive = () => {
  const value = props.value;
  if (!value || !value.state || muted || (value.run && value.run === deadRun)) return;
  state = value.state;
  if (state === "error") message = { ...(message || {}), error: value.error };
  else message = value;
  if (state === "done") finished = value;
  if (state !== "error") drawFrame(value);
  render();
};

const wait = () => {
  muted = false;
  state = "starting";
  queued = false;
  clearTimeout(patience);
  patience = setTimeout(() => { queued = true; render(); }, 3000);
};

const start = () => {
  wait();
  pinned = null;
  message = null;
  drawCommon();
  render();
  const { top, bottom } = part(".rs-picture").getBoundingClientRect();
  if (top < 0 || bottom > window.innerHeight) {
    part(".rs-picture").scrollIntoView({ block: "center", behavior: "smooth" });
  }
};

const canRepaint = () => state === "done" && message.grid > 1;
const canUndo = () => {
  if (state === "done") return message.kept > 1;
  return ["stopped", "error"].includes(state) && finished !== null;
};

// The buttons go while a block is painted; the keys keep working from the block itself.
const focusBlock = () => cells.querySelector("[tabindex='0']").focus({ preventScroll: true });

const repaint = () => {
  if (!canRepaint()) return;
  const [row, col] = (pinned = focus());
  wait();
  render();
  focusBlock();
  trigger("repaint", { row, col, run: message.run });
};

const undo = () => {
  if (!canUndo()) return;
  muted = false;
  focusBlock();
  trigger("back", { run: state === "done" ? message.run : null });
};

const stop = () => {
  if (!LIVE.includes(state)) return;
  const untouched = state === "starting" && message !== null; // a repaint without a first step
  muted = true;
  deadRun = untouched ? null : message?.run || null;
  state = untouched ? "done" : "stopped";
  render();
};

const fail = () => {
  if (!LIVE.includes(state)) return;
  message = { ...(message || {}), error: texts.failed };
  state = "error";
  render();
};

document.addEventListener("click", (event) => {
  if (event.target.closest("#rs-generate")) start();
  if (event.target.closest("#rs-stop")) stop();
});
hear("failed", fail);
hear("grid", (value) => { 
  grid = whole(value, 1, 4);
  if (!painting()) pinned = null;
  render();
});
hear("neighbors", (detail) => {
  chosen = detail.ids;
  if (state === "idle") drawCommon();
  render();
});

part(".rs-bar").setAttribute("aria-label", texts.progress);
watch("value", receive);
render();
tell("listening");
