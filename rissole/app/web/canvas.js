// The live canvas. The server sends one small message per frame (see `frame` in ui/frames.py): the
// picture so far as WebP, where the painting is, and the attention as bytes. The template never
// changes, so everything drawn here survives an update.
const { fill, make, thumb, put, write, hide, bring, arrow, whole, tell, hear, phase, ending, maps, Film } = window.rissole;
const { texts } = props;
const part = (name) => element.querySelector(name);
const pixels = part(".rs-pixels");
pixels.width = pixels.height = whole(props.size, 16, 1024);
const pen = pixels.getContext("2d", { willReadFrequently: true });
const cells = part(".rs-cells");
const film = new Film();
const LIVE = ["starting", "running"];
const VIEWS = ["picture", "won", "seams", "wipe"];

let state = "idle"; // idle, starting, running, done, stopped or error
let message = null; // the last one of the picture on show
let finished = null; // the last one of a finished picture
let source = props.source; // the database that is chosen now
let chosen = []; // neighbours that are switched on now
let own = {}; // neighbours of single blocks, ids by "row,col"
let held = null; // the neighbour in hand
let grid = whole(props.grid, 1, 4);
let pinned = null; // the block the visitor chose, [row, col]
let picked = new Set(); // blocks to repaint, where more than the one in focus are meant
let several = false; // a tap adds a block to those
let view = "picture";
let scrubbed = null; // the place in the film that is on show, null for the last
let playing = null;
let deadRun = null; // the run that was stopped: late frames of it are dropped
let muted = false;
let drawn = 0; // frames are decoded off screen and may finish out of order
let asked = 0;
let queued = false; // Generate was pressed a while ago, and no step has come yet
let stopping = false; // Stop was pressed, and the server has not yet said that it is at work
let away = false; // the server does not answer
let patience = null;
let line = null; // how many wait, this visitor the last of them; null before it is known

// ---- what is on show -------------------------------------------------------------------------

const live = () => LIVE.includes(state);
const painting = () => Boolean(message?.grid);
const side = () => (painting() ? message.grid : grid);
const middle = () => { const at = side() === 4 ? 1 : 0; return [at, at]; };
const brush = () => (painting() && state === "running" ? message.position : null);
const focus = () => {
  const last = side() - 1;
  const [row, col] = pinned || brush() || (painting() && (message.repaint?.[0] || message.position)) || middle();
  return [Math.min(row, last), Math.min(col, last)];
};
const reel = () => (painting() ? film.reel(message.run) : []);
const from = () => (painting() ? message.source : source); // where the picture's neighbours are
const shown = () => {
  if (!painting()) return null;
  return scrubbed === null ? message : reel()[scrubbed] || message;
};
const targets = () => {
  const all = [...picked].map((at) => [Math.floor(at / side()), at % side()]);
  return all.length ? all : [focus()];
};

// ---- drawing ---------------------------------------------------------------------------------

const load = async (address) => {
  const image = new Image();
  image.src = address;
  await image.decode();
  return image;
};

// While blocks are repainted only those are drawn: the others stay as they were, to the pixel.
const drawFrame = async (shown) => {
  const { frame, state: stage, repaint: blocks, grid: n } = shown;
  const order = ++asked;
  pixels.dataset.shown = "";
  const image = await load(frame).catch(() => null);
  if (!image || order < drawn) return;
  drawn = order;
  pixels.classList.remove("rs-faint");
  pen.globalAlpha = 1;
  const some = stage === "running" && blocks;
  const size = some ? pixels.width / n : pixels.width;
  for (const [row, col] of some || [[0, 0]]) {
    const area = [col * size, row * size, size, size];
    pen.drawImage(image, ...area, ...area);
  }
  pixels.dataset.frames = whole(pixels.dataset.frames, 0, 1e9) + 1;
  pixels.dataset.shown = scrubbed === null ? stage : "scrubbed";
  renderBlock();
  renderOverlay();
  tell("drawn", shown);
};

// Before the first step: the average of the neighbours, faint. Layer n at 1 / n is the mean.
const drawCommon = async () => {
  const order = ++asked;
  const wanted = [...new Set([...chosen, ...Object.values(own).flat()])];
  const found = await Promise.all(wanted.map((id) => film.image(thumb(source, id))));
  if (order < drawn || painting()) return;
  drawn = order;
  const images = new Map(wanted.map((id, n) => [id, found[n]]));
  pixels.classList.add("rs-faint");
  drawMean(chosen, images, [0, 0, pixels.width, pixels.width]);
  const size = pixels.width / side();
  for (const [at, ids] of Object.entries(own)) {
    const [row, col] = at.split(",").map(Number);
    drawMean(ids, images, [col * size, row * size, size, size]);
  }
  pen.globalAlpha = 1;
  renderBlock();
};

const drawMean = (ids, images, area) => {
  ids.map((id) => images.get(id)).filter(Boolean).forEach((image, n) => {
    const scale = image.width / pixels.width;
    pen.globalAlpha = 1 / (n + 1);
    pen.drawImage(image, ...area.map((value) => value * scale), ...area);
  });
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

// ---- ways to look at the picture ---------------------------------------------------------------

const earlier = () => (message?.before ? film.final(message.before) : null);
const possible = (name) => {
  if (name === "picture") return true;
  if (!painting() || state === "starting" || state === "error") return false;
  if (name === "won") return message.grid > 0;
  if (name === "seams") return state !== "running" && message.grid > 1;
  return state === "done" && earlier() !== null;
};

const views = Object.fromEntries(VIEWS.map((name) => {
  const button = make("button", "", { type: "button", "data-view": name });
  button.textContent = texts.views[name];
  button.addEventListener("click", () => { view = name; render(); });
  part(".rs-views").append(button);
  return [name, button];
}));
part(".rs-views").setAttribute("aria-label", texts.views.label);

let heat = null; // the seam ratio that is on show
const renderOverlay = () => {
  const overlay = part(".rs-overlay");
  hide(overlay, !["won", "seams"].includes(view));
  put(part(".rs-picture"), "data-view", view);
  if (overlay.hidden) return;
  const to = overlay.getContext("2d");
  if (view === "seams") {
    heat = maps.drawSeams(to, pen.getImageData(0, 0, pixels.width, pixels.height), side());
    renderCost();
    return;
  }
  const heard = maps.attention(shown());
  const one = shown().ids.indexOf(panel.large());
  if (one < 0) maps.drawWinners(to, heard);
  else maps.drawOne(to, heard, one);
};

const wipe = part(".rs-wipe input");
const renderWipe = () => {
  const open = view === "wipe";
  const before = part(".rs-earlier");
  hide(part(".rs-wipe"), !open);
  hide(before, !open);
  cells.toggleAttribute("inert", open);
  if (!open) return;
  part(".rs-picture").style.setProperty("--at", `${wipe.value}%`);
  if (before.dataset.run === message.before) return;
  before.dataset.run = message.before;
  before.width = before.height = pixels.width;
  film.image(earlier()).then((image) => { if (image) before.getContext("2d").drawImage(image, 0, 0); });
};
wipe.setAttribute("aria-label", texts.wipe);
wipe.addEventListener("input", renderWipe);
part(".rs-wipe-name").textContent = texts.before;
element.querySelectorAll(".rs-wipe-name")[1].textContent = texts.after;

const renderViews = () => {
  if (!possible(view)) view = "picture";
  for (const [name, button] of Object.entries(views)) {
    if (button.disabled === possible(name)) button.disabled = !possible(name);
    put(button, "aria-pressed", view === name);
  }
  renderOverlay();
  renderWipe();
};

// ---- the grid of blocks ----------------------------------------------------------------------

const pin = (position) => {
  pinned = position;
  render();
};

const pick = (at) => {
  if (!picked.size && pinned) picked.add(pinned[0] * side() + pinned[1]);
  if (picked.has(at) && picked.size > 1) picked.delete(at);
  else picked.add(at);
  pin([Math.floor(at / side()), at % side()]);
};

const buildCells = () => {
  const n = side();
  if (Number(cells.dataset.grid) === n) return;
  cells.dataset.grid = n;
  cells.style.setProperty("--n", n);
  picked = new Set();
  cells.replaceChildren(...Array.from({ length: n }, (_, row) => {
    const line = make("div", "rs-row", { role: "row" });
    line.append(...Array.from({ length: n }, (__, col) => cell(row, col, n)));
    return line;
  }));
};

const cell = (row, col, n) => {
  const node = make("div", "rs-cell", { role: "gridcell", "data-at": row * n + col,
    "data-row": row, "data-col": col, "data-drop": "block" });
  node.append(make("span", "rs-mark", { "aria-hidden": "true" }));
  return node;
};

const cellAt = (index) => cells.querySelector(`[data-at="${index}"]`);

const looks = (at) => {
  const now = shown();
  if (!now) return "waiting";
  if (now.done[at] === "1" && now.active[at] !== "1") return "done";
  if (now.active[at] === "1" && (state !== "done" || scrubbed !== null)) return "active";
  return now.done[at] === "1" ? "done" : "waiting";
};

const renderBadge = (node, at) => {
  const ids = own[at];
  let badge = node.querySelector(".rs-badge");
  if (!ids) return badge?.remove();
  if (!badge) {
    badge = make("button", "rs-badge", { type: "button", tabindex: "-1" });
    node.append(badge);
  }
  const [row, col] = at.split(",").map((value) => Number(value) + 1);
  badge.style.backgroundImage = `url("${thumb(source, ids.at(-1))}")`;
  badge.dataset.more = ids.length > 1 ? ids.length : "";
  badge.setAttribute("aria-label", fill(texts.badge, { row, col, items: ids.join(", ") }));
  badge.title = badge.getAttribute("aria-label");
};

const renderMark = (node, heard, row, col) => {
  const best = heard?.winner(row, col);
  const mark = node.querySelector(".rs-mark");
  hide(mark, !best);
  if (!best) return;
  write(mark, best.n + 1);
  Object.assign(mark.style, { background: maps.colour(best.n), color: maps.ink(best.n) });
};

const renderCells = () => {
  const n = side();
  const [row, col] = focus();
  const heard = view === "won" && shown() ? maps.attention(shown()) : null;
  for (const node of cells.querySelectorAll(".rs-cell")) {
    const at = Number(node.dataset.at);
    const here = [Math.floor(at / n), at % n];
    const focused = at === row * n + col;
    put(node, "data-state", painting() ? looks(at) : "idle");
    node.classList.toggle("rs-here", focused);
    node.classList.toggle("rs-picked", picked.has(at));
    put(node, "aria-selected", picked.size ? picked.has(at) : focused);
    put(node, "tabindex", focused ? 0 : -1);
    const words = [fill(texts.cell, { row: here[0] + 1, col: here[1] + 1, state: texts.cellStates[looks(at)] })];
    if (own[here.join()]) words.push(fill(texts.cellOwn, { items: own[here.join()].join(", ") }));
    put(node, "aria-label", words.join(", "));
    renderBadge(node, here.join());
    renderMark(node, heard, ...here);
  }
};

const give = (node) => tell("assign", { id: held, row: Number(node.dataset.row), col: Number(node.dataset.col) });

cells.setAttribute("aria-label", texts.grid);
cells.addEventListener("click", (event) => {
  const node = event.target.closest(".rs-cell");
  if (!node) return;
  if (event.target.closest(".rs-badge") && held === null) {
    tell("clear", `${node.dataset.row},${node.dataset.col}`);
  } else if (held !== null) {
    give(node);
  } else if (event.shiftKey || event.ctrlKey || event.metaKey || (several && canRepaint())) {
    pick(Number(node.dataset.at));
  } else {
    picked = new Set();
    pin([Number(node.dataset.row), Number(node.dataset.col)]);
  }
  node.focus({ preventScroll: true });
});

// a mouse that is dragged over the blocks picks them all
let dragged = null;
cells.addEventListener("pointerdown", (event) => {
  const node = event.target.closest(".rs-cell");
  dragged = node && event.pointerType === "mouse" && event.button === 0 && held === null ? node : null;
});
document.addEventListener("pointerup", () => { dragged = null; });
cells.addEventListener("pointerover", (event) => {
  const node = event.target.closest(".rs-cell");
  if (!node || !dragged || !(event.buttons & 1) || !canRepaint() || (node === dragged && !picked.size)) return;
  const [rows, cols] = ["row", "col"].map((name) =>
    [dragged, node].map((one) => Number(one.dataset[name])).sort());
  picked = new Set();
  for (let row = rows[0]; row <= rows[1]; row += 1) {
    for (let col = cols[0]; col <= cols[1]; col += 1) picked.add(row * side() + col);
  }
  pin([Number(node.dataset.row), Number(node.dataset.col)]);
});

cells.addEventListener("keydown", (event) => {
  const node = event.target.closest(".rs-cell");
  if (!node || event.ctrlKey || event.metaKey || event.altKey) return;
  const at = Number(node.dataset.at);
  if (event.key === " " || event.key === "Enter") {
    event.preventDefault();
    if (held !== null) give(node);
    else if (canRepaint()) pick(at);
    return;
  }
  if (["Delete", "Backspace"].includes(event.key)) return tell("clear", `${node.dataset.row},${node.dataset.col}`);
  const next = arrow(event.key, at, side(), side() ** 2);
  if (next === null) return;
  event.preventDefault();
  pin([Math.floor(next / side()), next % side()]);
  cellAt(next).focus();
});

// ---- the panel beside it -----------------------------------------------------------------------

const why = () => {
  if (pinned && live()) return texts.pinned;
  return brush() ? texts.following : "";
};

const panel = window.rissole.inspector(part(".rs-focus"), { texts }, {
  film, source: from, focus, side, shown, live, why,
  message: () => message,
  chosen: () => chosen,
  own: (row, col) => own[`${row},${col}`],
  view: () => view,
  scrubbed: () => scrubbed,
  scrub: (place) => scrub(place),
  changed: () => render(),
});

const button = (name, text, act) => {
  const node = part(name);
  node.textContent = text;
  node.addEventListener("click", act);
  return node;
};
const follow = button(".rs-follow", texts.follow, () => pin(null));
const again = button(".rs-repaint", texts.repaint, () => repaint());
const undoing = button(".rs-undo", texts.undo, () => undo());
const many = button(".rs-several", texts.several, () => {
  several = !several;
  if (!several) picked = new Set();
  render();
});
const more = button(".rs-more", texts.more, () => trigger("more", { run: message.run }));
const clearing = button(".rs-clear", texts.clear, () => tell("clear", null));
const release = button(".rs-release", texts.release, () => tell("release"));

// on a phone the picture may be far from the neighbour that was just taken in hand
const picture = part(".rs-picture");
const goto = button(".rs-goto", texts.goto, () => bring(picture));
new IntersectionObserver(([seen]) => { goto.hidden = seen.intersectionRatio > 0.5; }, { threshold: [0.5] })
  .observe(picture);

const renderTools = () => {
  hide(follow, !(pinned && brush()));
  for (const one of [again, many]) hide(one, !canRepaint());
  write(again, picked.size > 1 ? fill(texts.repaintMany, { count: picked.size }) : texts.repaint);
  put(many, "aria-pressed", several);
  hide(undoing, !canUndo());
  hide(more, state !== "done");
  hide(clearing, !Object.keys(own).length);
};

const renderHeld = () => {
  const box = part(".rs-held");
  hide(box, held === null);
  cells.classList.toggle("rs-holding", held !== null);
  if (held === null) return;
  const image = box.querySelector("img");
  const address = thumb(source, held);
  if (image.getAttribute("src") !== address) image.src = address;
  box.querySelector("p").textContent = fill(texts.holding, { item: held });
};

// ---- progress --------------------------------------------------------------------------------

const named = (text, [row, col], values) => fill(text, { row: row + 1, col: col + 1, ...values });

const where = (now) => {
  const { step, total_steps: steps, repaint: blocks } = now;
  if (blocks) {
    const text = blocks.length > 1 ? texts.repaintingMany : texts.repainting;
    return named(text, now.position || blocks[0], { step, steps, count: blocks.length });
  }
  if (now.position) return fill(texts.block, { index: now.index, blocks: now.num_blocks, step, steps });
  return fill(now.grid === 1 ? texts.whole : texts.parallel, { blocks: now.grid ** 2, step, steps });
};

const lowered = (text) => text.charAt(0).toLowerCase() + text.slice(1);

const words = () => {
  if (away && live()) return texts.away;
  if (state === "idle") return chosen.length ? texts.idle : texts.loading;
  if (state === "starting") {
    if (stopping) return texts.stopping;
    if (!queued) return texts.starting;
    return line ? fill(texts.inLine, { place: line }) : texts.queued;
  }
  if (state === "error") return message?.error || texts.failed;
  if (state === "running") return where(message);
  if (scrubbed !== null) return where(shown());
  if (state === "stopped") {
    return message ? fill(texts.stopped, { where: lowered(where(message)) }) : texts.stoppedEarly;
  }
  const seconds = message.seconds.toFixed(1);
  if (message.back) return texts.back;
  const blocks = message.repaint;
  if (!blocks) return fill(texts.done, { seconds });
  return named(blocks.length > 1 ? texts.repaintedMany : texts.repainted, blocks[0], { seconds, count: blocks.length });
};

const cost = () => {
  if (view === "seams" && heat !== null) return fill(texts.seams, { ratio: heat.toFixed(2) });
  if (view === "won") return panel.large() === null || shown().ids.indexOf(panel.large()) < 0 ? texts.won : texts.wonOne;
  if (view === "wipe") return texts.wipeHint;
  if (state === "idle") return chosen.length ? texts.idleFaint : "";
  if (!painting() || state === "error" || state === "starting") return "";
  const now = shown();
  const values = { calls: now.calls, seconds: now.seconds.toFixed(1), seed: now.seed };
  const other = [...chosen].sort().join() !== [...message.used].sort().join();
  if (!live() && other && chosen.length && scrubbed === null) return texts.older;
  return fill(state === "running" || scrubbed !== null ? texts.calls : texts.callsSeed, values);
};
const renderCost = () => write(part(".rs-cost"), cost());

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
  write(part(".rs-announce"), text);
};

const renderProgress = () => {
  const percent = Math.round(100 * share());
  part(".rs-bar span").style.transform = state === "starting" ? "" : `scaleX(${percent / 100})`;
  put(part(".rs-bar"), "aria-valuenow", percent);
  write(part(".rs-words"), words());
  renderCost();
  if (scrubbed === null) announce(words());
};

// ---- the film ----------------------------------------------------------------------------------

const slider = part(".rs-scrub");

const renderFilm = () => {
  const last = reel().length - 1;
  const open = !live() && state !== "error" && last > 0;
  hide(part(".rs-film"), !open);
  hide(part(".rs-bar"), open);
  if (!open) return;
  slider.max = last;
  slider.value = scrubbed ?? last;
  slider.setAttribute("aria-valuetext", words());
  part(".rs-play").setAttribute("aria-label", playing ? texts.pause : texts.play);
  part(".rs-play").classList.toggle("rs-playing", playing !== null);
};

const scrub = (place) => {
  const last = reel().length - 1;
  scrubbed = place === null || place >= last ? null : Math.max(0, place);
  drawFrame(shown());
  render();
};

const stopPlaying = () => {
  clearInterval(playing);
  playing = null;
};

const play = () => {
  if (playing) { stopPlaying(); return render(); }
  scrub(scrubbed === null ? 0 : scrubbed);
  playing = setInterval(() => {
    scrub((scrubbed ?? 0) + 1);
    if (scrubbed === null) { stopPlaying(); render(); }
  }, 80);
  render();
};

slider.setAttribute("aria-label", texts.scrub);
slider.addEventListener("input", () => { stopPlaying(); scrub(Number(slider.value)); });
part(".rs-play").addEventListener("click", play);

const render = () => {
  put(part(".rs-canvas"), "data-state", state);
  phase(state);
  buildCells();
  renderViews();
  renderCells();
  panel.render();
  renderTools();
  renderHeld();
  renderBlock();
  renderProgress();
  renderFilm();
};

// ---- what happens ----------------------------------------------------------------------------

const receive = () => {
  const value = props.value;
  if (!value || !value.state) return;
  if (value.state === "idle") return clearAway();
  if (muted || (value.run && value.run === deadRun)) return;
  state = value.state;
  scrubbed = null;
  stopPlaying();
  if (state === "error") message = { ...(message || {}), error: value.error };
  else message = value;
  if (state === "done") finished = value;
  if (state !== "error") {
    film.record(value);
    drawFrame(value);
  }
  if (state === "done") { picked = new Set(); several = false; }
  render();
};

// Another database was chosen: what is on show was painted from pictures of the one before.
const clearAway = () => {
  if (live()) return;
  stopPlaying();
  [state, message, finished, pinned, scrubbed, view] = ["idle", null, null, null, null, "picture"];
  picked = new Set();
  drawCommon();
  render();
};

const wait = () => {
  muted = false;
  state = "starting";
  queued = stopping = false;
  scrubbed = null;
  view = "picture";
  stopPlaying();
  clearTimeout(patience);
  line = null;
  pixels.dataset.shown = "";
  patience = setTimeout(standInLine, 1500);
};

// First come, first served: the place can only get better than when it was first asked for.
const standInLine = async () => {
  if (state !== "starting") return;
  const answer = await fetch("gradio_api/queue/status", { cache: "no-store" }).catch(() => null);
  const size = answer?.ok ? (await answer.json()).queue_size : null;
  if (state !== "starting") return;
  queued = true;
  if (Number.isInteger(size)) line = Math.min(line ?? size, size);
  render();
  clearTimeout(patience);
  patience = setTimeout(standInLine, 1500);
};

const start = () => {
  wait();
  pinned = null;
  picked = new Set();
  message = null;
  drawCommon();
  render();
  const { top, bottom } = picture.getBoundingClientRect();
  if (top < 0 || bottom > window.innerHeight) bring(picture);
};

const canRepaint = () => state === "done" && message.grid > 1;
const canUndo = () => {
  if (state === "done") return message.kept > 1;
  return ["stopped", "error"].includes(state) && finished !== null;
};

// The buttons go while a block is painted; the keys keep working from the block itself.
const focusBlock = () => cells.querySelector("[tabindex='0']").focus({ preventScroll: true });

const repaint = () => {
  if (!canRepaint() || ending()) return;
  const blocks = targets();
  pinned = focus();
  if (scrubbed !== null) drawFrame(message);
  wait();
  render();
  focusBlock();
  trigger("repaint", { blocks, run: message.run });
};

const undo = () => {
  if (!canUndo()) return;
  muted = false;
  focusBlock();
  trigger("back", { run: state === "done" ? message.run : null });
};

const stop = () => {
  if (!live()) return;
  const untouched = state === "starting" && message !== null; // a repaint without a first step
  muted = true;
  deadRun = untouched ? null : message?.run || null;
  state = untouched ? "done" : "stopped";
  render();
};

const fail = () => {
  if (!live()) return;
  message = { ...(message || {}), error: texts.failed };
  state = "error";
  render();
};

document.addEventListener("click", (event) => {
  if (event.target.closest("#rs-generate")) start();
  if (event.target.closest("#rs-stop")) stop();
});
hear("start", start);
hear("failed", fail);
hear("waiting", (id) => { stopping = id === "rs-stop"; render(); });
hear("repaint", repaint);
hear("undo", undo);
hear("away", (gone) => { away = gone; render(); });
hear("grid", (value) => {
  const next = whole(value, 1, 4);
  if (next === grid) return;
  grid = next;
  if (!painting()) pinned = null;
  render();
});
hear("neighbors", (detail) => {
  const before = JSON.stringify([chosen, own, source]);
  ({ ids: chosen, blocks: own, held, source } = detail);
  if (state === "idle" && JSON.stringify([chosen, own, source]) !== before) drawCommon();
  render();
});

part(".rs-bar").setAttribute("aria-label", texts.progress);
watch("value", receive);
render();
tell("listening");
