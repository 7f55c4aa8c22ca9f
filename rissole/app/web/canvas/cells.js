// The grid of blocks over the picture: what is done, in focus, picked, and whose neighbors a block
// has; clicks, drags and keys on it.
import { make, parts, put, within } from "../shared/dom.js";
import { E } from "../shared/events.js";
import { canRepaint, focus, isPainting, placeOf, side } from "../shared/state.js";
import { state, tell } from "../shared/store.js";
import { arrow, fill, thumb } from "../shared/values.js";
import * as maps from "./maps.js";
import { cellName, looks, outdated } from "./words.js";

/**
 * @typedef {import("../types").State} State
 * @typedef {import("../types").Message} Message
 */

/** @param {HTMLElement} node */
const numbers = (node) => [Number(node.dataset.row), Number(node.dataset.col)];
/** @param {HTMLElement} node */
const key = (node) => numbers(node).join();

/** @type {(row: number, col: number, n: number) => HTMLElement} */
const cell = (row, col, n) => {
  const node = make("div", "rs-cell", { role: "gridcell", "data-at": row * n + col,
    "data-row": row, "data-col": col, "data-drop": "block" });
  return node;
};

/**
 * @param {HTMLElement} cells
 * @param {Record<string, any>} texts
 */
export const cellsOf = (cells, texts) => {
  const build = () => {
    const n = side(state());
    if (Number(cells.dataset.grid) === n) return;
    cells.dataset.grid = String(n);
    cells.style.setProperty("--n", String(n));
    cells.replaceChildren(...Array.from({ length: n }, (_, row) => {
      const line = make("div", "rs-row", { role: "row" });
      line.append(...Array.from({ length: n }, (__, col) => cell(row, col, n)));
      return line;
    }));
  };

  /** @type {(node: HTMLElement, place: number[], ids: number[] | undefined, next: boolean) => void} */
  const renderBadge = (node, [row, col], ids, next) => {
    let badge = /** @type {HTMLElement | null} */ (node.querySelector(".rs-badge"));
    if (!ids) return badge?.remove();
    if (!badge) {
      badge = make("button", "rs-badge", { type: "button", tabindex: "-1" });
      node.append(badge);
    }
    badge.classList.toggle("rs-next", next);
    const label = fill(next ? texts.badgeNext : texts.badge, { row: row + 1, col: col + 1, items: ids.join(", ") });
    badge.style.backgroundImage = `url("${thumb(state().neighbors.source, ids.at(-1))}")`;
    badge.dataset.more = ids.length > 1 ? String(ids.length) : "";
    badge.setAttribute("aria-label", label);
    badge.title = label;
  };

  /** @type {(node: HTMLElement, regions: {n: number, x: number, y: number}[]) => void} */
  const renderMarks = (node, regions) => {
    const marks = JSON.stringify(regions);
    if (node.dataset.marks === marks) return;
    node.dataset.marks = marks;
    for (const mark of node.querySelectorAll(".rs-mark")) mark.remove();
    node.append(...regions.map(({ n, x, y }) => {
      const mark = make("span", "rs-mark", { "aria-hidden": "true" });
      mark.textContent = String(n + 1);
      Object.assign(mark.style, maps.chip(n), { left: `${100 * x}%`, top: `${100 * y}%` });
      return mark;
    }));
  };

  /** @param {Message | null} shown */
  const render = (shown) => {
    const s = state();
    build();
    const [row, col] = focus(s);
    const heard = s.view === "won" && shown ? maps.attention(shown) : null;
    const old = outdated(s);
    for (const node of /** @type {NodeListOf<HTMLElement>} */ (cells.querySelectorAll(".rs-cell"))) {
      const at = Number(node.dataset.at);
      const place = placeOf(s, at);
      const focused = at === row * side(s) + col;
      put(node, "data-state", isPainting(s) ? looks(s, shown, at) : "idle");
      node.classList.toggle("rs-here", focused);
      node.classList.toggle("rs-picked", s.picked.has(at));
      put(node, "aria-selected", s.picked.size ? s.picked.has(at) : focused);
      put(node, "tabindex", focused ? 0 : -1);
      put(node, "aria-label", cellName(s, shown, at, texts));
      renderBadge(node, place, s.neighbors.blocks[place.join()], !isPainting(s) || old.has(at));
      renderMarks(node, heard?.regions(place[0], place[1]) ?? []);
    }
    cells.classList.toggle("rs-holding", s.held !== null);
  };

  /** @param {HTMLElement} node */
  const give = (node) => {
    const [row, col] = numbers(node);
    tell(E.ASSIGN, { id: state().held, row, col });
  };

  cells.setAttribute("aria-label", texts.grid);
  cells.addEventListener("click", (event) => {
    const node = within(event, ".rs-cell");
    if (!node) return;
    const { held, several } = state();
    if (within(event, ".rs-badge") && held === null) tell(E.CLEAR, key(node));
    else if (held !== null) give(node);
    else if (event.shiftKey || event.ctrlKey || event.metaKey || (several && canRepaint(state()))) {
      tell(E.PICK, Number(node.dataset.at));
    } else tell(E.CHOOSE, numbers(node));
    node.focus({ preventScroll: true });
  });

  // a mouse that is dragged over the blocks picks them all
  /** @type {HTMLElement | null} */
  let dragged = null;
  cells.addEventListener("pointerdown", (event) => {
    const mouse = event.pointerType === "mouse" && event.button === 0;
    dragged = mouse && state().held === null ? within(event, ".rs-cell") : null;
  });
  document.addEventListener("pointerup", () => { dragged = null; });
  cells.addEventListener("pointerover", (event) => {
    const node = within(event, ".rs-cell");
    if (!node || !dragged || !(event.buttons & 1) || !canRepaint(state())) return;
    if (node === dragged && !state().picked.size) return;
    tell(E.AREA, { from: numbers(dragged), to: numbers(node) });
  });

  cells.addEventListener("keydown", (event) => {
    const node = within(event, ".rs-cell");
    if (!node || event.ctrlKey || event.metaKey || event.altKey) return;
    const at = Number(node.dataset.at);
    if (event.key === " " || event.key === "Enter") {
      event.preventDefault();
      if (state().held !== null) give(node);
      else if (canRepaint(state())) tell(E.PICK, at);
      return;
    }
    if (["Delete", "Backspace"].includes(event.key)) {
      tell(E.CLEAR, key(node));
      return;
    }
    const next = arrow(event.key, at, side(state()), side(state()) ** 2);
    if (next === null) return;
    event.preventDefault();
    tell(E.FOCUS, placeOf(state(), next));
    parts(cells).part(`[data-at="${next}"]`).focus();
  });

  return { render };
};
