// The live canvas. The server sends one small message per frame (see `Frames` in ui.py): the
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

const painting = () => Boolean(message?.grid) && state !== "idle" && state !== "starting";
const side = () => (painting() ? message.grid : grid);
const ids = () => (painting() ? message.ids : chosen);
const middle = () => { const at = side() === 4 ? 1 : 0; return [at, at]; };
const brush = () => (painting() && state === "running" ? message.position : null);
const focus = () => {
  const last = side() - 1;
  const [row, col] = pinned || brush() || (painting() && message.position) || middle();
  return [Math.min(row, last), Math.min(col, last)];
};

const weights = ([row, col]) => {
  if (!painting() || !message.attention) return null;
  const bytes = atob(message.attention);
  const k = message.ids.length;
  const first = (row * message.grid + col) * k;
  const values = message.ids.map((_, n) => bytes.charCodeAt(first + n) || 0);
  const total = values.reduce((a, b) => a + b, 0);
  return total ? values.map((value) => value / total) : null;
};

// ---- drawing ---------------------------------------------------------------------------------

const load = async (address) => {
  const image = new Image();
  image.src = address;
  await image.decode();
  return image;
};

const drawFrame = async (address) => {
  const order = ++asked;
  const image = await load(address).catch(() => null);
  if (!image || order < drawn) return;
  drawn = order;
  pixels.classList.remove("rs-faint");
  pen.globalAlpha = 1;
  pen.drawImage(image, 0, 0, pixels.width, pixels.height);
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
cells.addEventListener("keydown", (event) => {
  const cell = event.target.closest(".rs-cell");
  const at = cell && arrow(event.key, Number(cell.dataset.at), side(), side() ** 2);
  if (at === null || at === undefined) return;
  event.preventDefault();
  pin([Math.floor(at / side()), at % side()]);
  cellAt(at).focus();
});

// ---- the focus: one block beside the same block of every neighbour ---------------------------

const buildTiles = () => {
  const list = part(".rs-tiles");
  const key = ids().join();
  if (list.dataset.ids === key) return;
  list.dataset.ids = key;
  list.classList.toggle("rs-many", ids().length > 8);
  list.replaceChildren(...ids().map((id) => {
    const tile = make("li", "rs-tile");
    const crop = make("div", "rs-crop");
    crop.style.backgroundImage = `url("${thumb(source, id)}")`;
    const bar = make("div", "rs-weight", { "aria-hidden": "true" });
    bar.append(make("span"));
    tile.append(crop, bar, make("span", "rs-percent"));
    return tile;
  }));
};

const renderTiles = () => {
  const n = side();
  const [row, col] = focus();
  const shares = weights([row, col]);
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
      { item: ids()[index], percent }));
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
};

part(".rs-follow").textContent = texts.follow;
part(".rs-follow").addEventListener("click", () => pin(null));

// ---- progress --------------------------------------------------------------------------------

const where = () => {
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
  return fill(texts.done, { seconds: message.seconds.toFixed(1) });
};

const cost = () => {
  if (state === "idle") return chosen.length ? texts.idleFaint : "";
  if (!painting() || state === "error") return "";
  const values = { calls: message.calls, seconds: message.seconds.toFixed(1), seed: message.seed };
  const other = [...chosen].sort().join() !== [...message.ids].sort().join();
  if (!LIVE.includes(state) && other && chosen.length) return texts.older;
  return fill(state === "running" ? texts.calls : texts.callsSeed, values);
};

const share = () => {
  if (!painting()) return 0;
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
  buildTiles();
  renderTiles();
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
  if (state !== "error") drawFrame(value.frame);
  render();
};

const start = () => {
  muted = false;
  pinned = null;
  message = null;
  state = "starting";
  queued = false;
  clearTimeout(patience);
  patience = setTimeout(() => { queued = true; render(); }, 3000);
  drawCommon();
  render();
  const { top, bottom } = part(".rs-picture").getBoundingClientRect();
  if (top < 0 || bottom > window.innerHeight) {
    part(".rs-picture").scrollIntoView({ block: "center", behavior: "smooth" });
  }
};

const stop = () => {
  if (!LIVE.includes(state)) return;
  muted = true;
  deadRun = message?.run || null;
  state = "stopped";
  render();
};

const fail = () => {
  if (!LIVE.includes(state)) return;
  message = { error: texts.failed };
  state = "error";
  render();
};

document.addEventListener("click", (event) => {
  if (event.target.closest("#rs-generate")) start();
  if (event.target.closest("#rs-stop")) stop();
});
hear("failed", fail);
hear("grid", (value) => { grid = whole(value, 1, 4); pinned = null; render(); });
hear("neighbors", (detail) => {
  chosen = detail.ids;
  if (state === "idle") drawCommon();
  render();
});

part(".rs-bar").setAttribute("aria-label", texts.progress);
watch("value", receive);
render();
tell("listening");
