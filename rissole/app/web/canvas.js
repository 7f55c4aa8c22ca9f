// The live canvas. The server sends one small message per frame (see `frame` in frames.py): the
// picture so far as WebP, where the painting is, and the attention as bytes. The template never
// changes, so everything drawn here survives an update.
import { cellsOf } from "./canvas/cells.js";
import { Film } from "./canvas/film.js";
import { lensOf } from "./canvas/lens.js";
import { openPainted } from "./canvas/opening.js";
import { inspectorOf } from "./canvas/inspector.js";
import { pixelsOf } from "./canvas/pixels.js";
import { progressOf } from "./canvas/progress.js";
import { viewsOf } from "./canvas/views.js";
import { repaintName } from "./canvas/words.js";
import { bring, hide, parts, penOf, put, within, write } from "./shared/dom.js";
import { engine, useEngine } from "./shared/engine.js";
import { E } from "./shared/events.js";
import { watchLive } from "./shared/live.js";
import { serverEngine } from "./shared/server_engine.js";
import {
  brush, canRepaint, canUndo, chosen, focus, isFrame, isLive, isPainting, isSettled, side, targets,
} from "./shared/state.js";
import { follow, hear, state, tell } from "./shared/store.js";
import { inTurn } from "./shared/turns.js";
import { fill, thumb, whole } from "./shared/values.js";

/** @typedef {import("./types").Message} Message */

const COARSE = 64; // pixels of a side below which a picture is shown pixel by pixel
const PHONE = "(max-width: 700px)";

/** @param {import("./types").Component} component */
export const mount = (component) => {
  const { element, props, trigger, watch } = component;
  const { texts } = props;
  const { part, canvas, input } = parts(element);
  const [paper, cells, picture] = [canvas(".rs-pixels"), part(".rs-cells"), part(".rs-picture")];
  paper.width = paper.height = whole(props.size, 16, 1024);
  // few pixels drawn large are squares: smoothed, they would look like a blurred painting
  document.documentElement.toggleAttribute("data-coarse", paper.width < COARSE);
  tell(E.SETUP, { source: props.source, grid: whole(props.grid, 1, 4) });
  if (props.settings) tell(E.SETTINGS, props.settings);
  const there = serverEngine(component);
  useEngine(there);

  const film = new Film();
  const reel = () => (isPainting(state()) ? film.reel(state().message?.run) : []);
  const shown = () => {
    const { message, scrubbed } = state();
    if (!isPainting(state())) return null;
    return scrubbed === null ? message : reel()[scrubbed] || message;
  };

  // ---- drawing ---------------------------------------------------------------------------------

  const pixels = pixelsOf(paper, film);
  const views = viewsOf(element, texts, film, pixels);
  const grid = cellsOf(cells, texts);
  lensOf(cells, () => shown());
  const panel = inspectorOf(part(".rs-focus"), texts, film);
  const progress = progressOf(element, texts, reel, views.heat);

  /** @param {Message} message */
  const drawFrame = async (message) => {
    paper.dataset.shown = "";
    if (!(await pixels.draw(message))) return;
    paper.dataset.frames = String(whole(paper.dataset.frames, 0, 1e9) + 1);
    paper.dataset.shown = state().scrubbed === null ? message.state : "scrubbed";
    renderBlock();
    views.renderOverlay(shown());
    progress.renderCost(shown());
    tell(E.DRAWN, message);
  };

  const drawCommon = async () => {
    const { blocks, source } = state().neighbors;
    const wanted = () => !isPainting(state());
    if (await pixels.drawCommon(chosen(state()), blocks, source, side(state()), wanted)) renderBlock();
  };

  const renderBlock = () => {
    const [row, col] = focus(state());
    const size = paper.width / side(state());
    const block = canvas(".rs-block");
    const to = penOf(block);
    to.imageSmoothingEnabled = paper.width >= COARSE;
    to.imageSmoothingQuality = "high";
    to.drawImage(paper, col * size, row * size, size, size, 0, 0, block.width, block.height);
    block.classList.toggle("rs-faint", paper.classList.contains("rs-faint"));
  };

  // ---- whether the picture follows what is changed ----------------------------------------------

  const liveSwitch = input(".rs-live input");
  part(".rs-live span").textContent = texts.live;
  part(".rs-live").title = texts.liveInfo;
  liveSwitch.addEventListener("change", () => tell(E.LIVE, liveSwitch.checked));
  follow(({ follows }) => [follows], () => { liveSwitch.checked = state().follows; });

  // ---- tools -----------------------------------------------------------------------------------

  /** @type {(name: string, text: string, act: () => void) => HTMLElement} */
  const button = (name, text, act) => {
    const node = part(name);
    node.textContent = text;
    node.addEventListener("click", act);
    return node;
  };
  const follower = button(".rs-follow", texts.follow, () => tell(E.FOCUS, null));
  const again = button(".rs-repaint", texts.repaint, () => inTurn(repaint));
  const undoing = button(".rs-undo", texts.undo, () => inTurn(undo));
  const closing = button(".rs-close", texts.close, () => tell(E.FOCUS, null));
  const many = button(".rs-several", texts.several, () => tell(E.SEVERAL));
  const more = button(".rs-more", texts.more, () => {
    tell(E.SEEK);
    engine().retrieve({ run: state().message?.run });
  });
  const clearing = button(".rs-clear", texts.clear, () => tell(E.CLEAR, null));
  button(".rs-release", texts.release, () => tell(E.RELEASE));
  // on a phone the picture may be far from the neighbor that was just taken in hand
  const goto = button(".rs-goto", texts.goto, () => bring(picture));
  new IntersectionObserver(([seen]) => { goto.hidden = seen.intersectionRatio > 0.5; }, { threshold: [0.5] })
    .observe(picture);

  const renderTools = () => {
    const s = state();
    hide(follower, !(s.pinned && brush(s)));
    for (const one of [again, many]) hide(one, !canRepaint(s));
    write(again, repaintName(s, texts));
    put(many, "aria-pressed", s.several);
    hide(undoing, !canUndo(s));
    hide(more, !isSettled(s));
    hide(clearing, !Object.keys(s.neighbors.blocks).length);
  };

  const renderHeld = () => {
    const { held, neighbors } = state();
    const box = part(".rs-held");
    hide(box, held === null);
    if (held === null) return;
    const image = /** @type {HTMLImageElement} */ (parts(box).part("img"));
    const address = thumb(neighbors.source, held);
    if (image.getAttribute("src") !== address) image.src = address;
    parts(box).part("p").textContent = fill(texts.holding, { item: held });
  };

  const render = () => {
    const now = shown();
    put(part(".rs-canvas"), "data-state", state().phase);
    picture.classList.toggle("rs-following", state().sketching);
    // on a phone, the block one has chosen comes up from below
    part(".rs-canvas").classList.toggle("rs-sheet", state().pinned !== null);
    hide(closing, state().pinned === null);
    views.render(now);
    grid.render(now);
    panel.render(now);
    renderTools();
    renderHeld();
    renderBlock();
    progress.render(now);
  };

  // ---- what happens ----------------------------------------------------------------------------

  /** @param {Message | null} value */
  const receive = (value) => {
    if (!value) return;
    const wanted = isFrame(state(), value);
    if (wanted) film.record(value);
    tell(E.MESSAGE, { value, earlier: film.final(value.before) !== null });
    if (wanted) drawFrame(value);
    if (value.state === "idle" && !isLive(state())) drawCommon();
  };

  /** What cannot be painted leaves the picture there that was there. */
  const putBack = () => {
    const { phase, message } = state();
    if (phase === "error" && message?.frame && paper.dataset.shown === "") drawFrame(message);
  };
  hear(E.MESSAGE, putBack);
  hear(E.FAILED, putBack);

  const wait = () => { paper.dataset.shown = ""; };

  hear(E.START, () => {
    wait();
    drawCommon();
    const { top, bottom } = picture.getBoundingClientRect();
    if (top < 0 || bottom > window.innerHeight) bring(picture);
  });

  // The buttons go while a block is painted; the keys keep working from the block itself.
  const focusBlock = () => part(".rs-cells [tabindex='0']").focus({ preventScroll: true });

  const repaint = () => {
    const { message, scrubbed } = state();
    if (!message || !canRepaint(state())) return;
    const blocks = targets(state());
    if (scrubbed !== null) drawFrame(message);
    tell(E.REPAINTING, focus(state()));
    wait();
    focusBlock();
    trigger("repaint", { blocks, run: message.run });
  };

  const undo = () => {
    if (!canUndo(state())) return;
    tell(E.RETURNING);
    focusBlock();
    trigger("back", { run: state().phase === "done" ? state().message?.run : null });
  };

  document.addEventListener("click", (event) => {
    if (within(event, "#rs-generate")) tell(E.START);
    if (within(event, "#rs-stop")) tell(E.STOP);
  });
  hear(E.REPAINT, () => inTurn(repaint));
  hear(E.UNDO, () => inTurn(undo));
  hear(E.SCRUB, () => {
    const now = shown();
    if (now) drawFrame(now);
  });

  follow((s) => [s], render);
  follow(({ pinned }) => [pinned], () => { // the sheet must not cover the picture
    if (state().pinned && matchMedia(PHONE).matches) bring(picture, "start");
  });
  let common = JSON.stringify([[], {}, props.source]);
  follow(({ neighbors }) => [neighbors], () => {
    const { blocks, source } = state().neighbors;
    const key = JSON.stringify([chosen(state()), blocks, source]);
    if (key !== common && state().phase === "idle") drawCommon();
    common = key;
  });
  watch("value", () => { if (props.value && !there.receive(props.value)) receive(props.value); });
  hear(E.FRAME, receive);
  receive(props.value);
  watchLive(props.live);
  openPainted(picture, { address: props.showcase, source: props.source }, film, receive);
};
