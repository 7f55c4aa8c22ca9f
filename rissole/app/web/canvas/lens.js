// The lens: whom a block looks at. Its neighbors whole, the block boxed in each, and a line to every
// box as thick as the share. It lies over the page and takes no clicks.
import { isCarrying } from "../shared/carry.js";
import { hide, make, shot, within, worded } from "../shared/dom.js";
import { isLive, side } from "../shared/state.js";
import { follow, state } from "../shared/store.js";
import { thumb } from "../shared/values.js";
import * as maps from "./maps.js";

/**
 * @typedef {import("../types").Message} Message
 * @typedef {{x: number, y: number, width: number, height: number}} Box
 */

const HOVER = 350; // ms that a mouse rests on a block
const PRESS = 450; // ms that a finger does
const SLIP = 10; // pixels that it may move meanwhile
const THICK = 36; // pixels of a line for the whole of the attention
const GAP = 16;
const SVG = "http://www.w3.org/2000/svg";

/**
 * Where the lens goes: beside the picture where there is room, else over the half that the block is
 * not in.
 * @param {Box} picture
 * @param {Box} cell
 * @param {{width: number, height: number}} size of the lens
 * @param {{width: number, height: number}} view
 * @returns {{x: number, y: number}}
 */
export const placed = (picture, cell, size, view) => {
  const within_ = (/** @type {number} */ at, /** @type {number} */ length, /** @type {number} */ room) =>
    Math.max(4, Math.min(at, room - length - 4));
  const y = within_(cell.y + cell.height / 2 - size.height / 2, size.height, view.height);
  const right = picture.x + picture.width + GAP;
  if (right + size.width <= view.width) return { x: right, y };
  if (picture.x - GAP - size.width >= 0) return { x: picture.x - GAP - size.width, y };
  const middle = within_(picture.x + picture.width / 2 - size.width / 2, size.width, view.width);
  const high = cell.y + cell.height / 2 > picture.y + picture.height / 2;
  const over = high ? cell.y - GAP - size.height : cell.y + cell.height + GAP;
  return { x: middle, y: within_(over, size.height, view.height) };
};

/** @param {number} share */
export const thickness = (share) => Math.max(0.75, THICK * share);

/**
 * @param {HTMLElement} cells
 * @param {() => Message | null} shown
 */
export const lensOf = (cells, shown) => {
  const lens = make("div", "rs-lens", { "aria-hidden": "true" });
  const lines = document.createElementNS(SVG, "svg");
  lines.classList.add("rs-lens-lines");
  const list = make("ul");
  lens.append(list);
  (cells.closest(".gradio-container") ?? document.body).append(lines, lens);
  lens.hidden = true;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;

  const close = () => {
    clearTimeout(timer);
    hide(lens, true);
    lines.replaceChildren();
  };

  /** @type {(message: Message, heard: maps.Heard, place: number[]) => HTMLElement} */
  const entry = (message, { n, id, share }, [row, col]) => {
    const item = make("li");
    const box = make("i");
    const part = 100 / message.grid;
    Object.assign(box.style, { left: `${col * part}%`, top: `${row * part}%`, width: `${part}%`, height: `${part}%`,
      borderColor: maps.color(n) });
    const picture = make("span", "rs-lens-picture");
    picture.append(shot(thumb(message.source, id), 72), box);
    item.append(picture, worded("b", `${Math.round(100 * share)} %`));
    item.dataset.n = String(n);
    return item;
  };

  /** @type {(from: Box, to: Box, heard: maps.Heard) => SVGElement} */
  const line = (from, to, { n, share }) => {
    const path = document.createElementNS(SVG, "path");
    const [x, y] = [from.x + from.width / 2, from.y + from.height / 2];
    const [u, v] = [to.x + to.width / 2, to.y + to.height / 2];
    path.setAttribute("d", `M${x},${y} C${(x + u) / 2},${y} ${(x + u) / 2},${v} ${u},${v}`);
    path.setAttribute("stroke", maps.color(n));
    path.setAttribute("stroke-width", String(thickness(share)));
    path.dataset.share = share.toFixed(3);
    return path;
  };

  /** @param {HTMLElement} cell */
  const open = (cell) => {
    const message = shown();
    const s = state();
    if (!message || isLive(s) || s.held !== null || isCarrying() || s.view === "wipe") return;
    const place = [Number(cell.dataset.row), Number(cell.dataset.col)];
    if (message.grid !== side(s)) return;
    const heard = maps.attention(message).shares(place[0], place[1]).sort((a, b) => b.share - a.share);
    if (!heard.length) return;
    list.replaceChildren(...heard.map((one) => entry(message, one, place)));
    hide(lens, false);
    const from = cell.getBoundingClientRect();
    const at = placed(cells.getBoundingClientRect(), from, lens.getBoundingClientRect(),
      { width: innerWidth, height: innerHeight });
    Object.assign(lens.style, { left: `${at.x}px`, top: `${at.y}px` });
    const boxes = [...list.querySelectorAll("i")].map((box) => box.getBoundingClientRect());
    lines.replaceChildren(...heard.map((one, n) => line(from, boxes[n], one)).reverse());
  };

  /** @type {(cell: HTMLElement, ms: number) => void} */
  const openLater = (cell, ms) => {
    clearTimeout(timer);
    timer = setTimeout(() => open(cell), ms);
  };

  // ---- a mouse, a finger, a key ----------------------------------------------------------------

  cells.addEventListener("pointerover", (event) => {
    const cell = within(event, ".rs-cell");
    if (event.pointerType !== "mouse" || !cell) return;
    close();
    if (!event.buttons) openLater(cell, HOVER);
  });
  cells.addEventListener("pointerleave", close);
  /** @type {PointerEvent | null} */
  let pressed = null;
  let looked = false; // the press was for the lens, and is no tap
  cells.addEventListener("pointerdown", (event) => {
    close();
    looked = false;
    pressed = event.pointerType === "mouse" ? null : event;
    const cell = within(event, ".rs-cell");
    if (!pressed || !cell) return;
    timer = setTimeout(() => { open(cell); looked = !lens.hidden; }, PRESS);
  });
  document.addEventListener("pointermove", (event) => {
    if (pressed && Math.hypot(event.clientX - pressed.clientX, event.clientY - pressed.clientY) > SLIP) close();
  });
  for (const name of ["pointerup", "pointercancel"]) {
    document.addEventListener(name, () => { if (pressed) close(); pressed = null; });
  }
  cells.addEventListener("click", (event) => {
    if (looked) event.stopImmediatePropagation();
    looked = false;
  }, { capture: true });
  cells.addEventListener("contextmenu", (event) => { if (pressed) event.preventDefault(); });
  cells.addEventListener("focusin", (event) => {
    const cell = within(event, ".rs-cell");
    close();
    if (cell?.matches(":focus-visible")) openLater(cell, HOVER);
  });
  cells.addEventListener("focusout", close);
  document.addEventListener("keydown", ({ key }) => { if (key === "Escape") close(); });
  window.addEventListener("scroll", close, { passive: true, capture: true });
  follow(({ message, phase, held, view }) => [message, phase, held, view], close);
};
