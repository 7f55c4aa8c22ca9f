// Pictures side by side: four ways, or two settings against each other. The server sends the cells
// that are finished; each carries the link that paints it again.
import { bring, make, parts, shot, within, worded } from "./shared/dom.js";
import { E } from "./shared/events.js";
import { saveFile } from "./shared/patches.js";
import { hear, tell } from "./shared/store.js";
import { beginRun, endRun } from "./shared/turns.js";
import { fill } from "./shared/values.js";

/**
 * @typedef {{src: string, seconds: number, calls: number, seam: number | null, link: string}} Cell
 * @typedef {{run?: string, state?: string, error?: string | null, kind?: string, columns?: string[],
 *   rows?: string[], count: number, at: number, done: number, cells: Cell[], file?: string}} Comparison
 */

/** @type {Comparison} */
const NOTHING = { count: 0, at: 0, done: 0, cells: [] };
const FIRST = /** @type {const} */ ([["x", "k"], ["y", "guidance"]]);

/** @param {import("./types").Component} component */
export const mount = ({ element, props, trigger, watch }) => {
  const { texts } = props;
  const examples = { ...texts.examples, ...(props.few && texts.fewExamples) }; // values to begin with
  const { part, button, input } = parts(element);
  const select = (/** @type {string} */ name) => /** @type {HTMLSelectElement} */ (part(`[name=${name}]`));
  /** @type {Comparison | null} */
  let message = null; // the last one of the run on show
  let state = "idle"; // idle, waiting, running, done, stopped or error
  /** @type {string | null} */
  let deadRun = null;

  let halting = false; // the server has not yet ended what was stopped

  const live = () => ["waiting", "running"].includes(state);

  // ---- drawing ---------------------------------------------------------------------------------

  const note = (/** @type {Cell} */ { seam, seconds, calls }) => fill(seam === null ? texts.noteWhole : texts.note, {
    seam: seam === null ? "" : Number(seam).toFixed(2), seconds: Number(seconds).toFixed(1), calls,
  });

  /** @type {(cell: Cell | undefined, label: string) => HTMLElement} */
  const picture = (cell, label) => {
    const node = make("figure", "rs-shot");
    if (!cell) {
      node.append(make("div", "rs-blank"));
      return node;
    }
    const words = note(cell);
    const open = make("button", "", {
      type: "button", "data-link": cell.link, "aria-label": fill(texts.open, { label, note: words }),
    });
    open.append(shot(cell.src, 128));
    node.append(open, worded("figcaption", words, { class: "rs-hint" }));
    return node;
  };

  /** @type {(columns: string[], cells: Cell[]) => HTMLElement} */
  const drawWays = (columns, cells) => {
    const list = make("div", "rs-four");
    list.append(...columns.map((label, index) => {
      const way = make("div");
      way.append(worded("h3", label), picture(cells[index], label));
      return way;
    }));
    return list;
  };

  /** @type {(columns: string[], rows: string[], cells: Cell[]) => HTMLElement} */
  const drawCross = (columns, rows, cells) => {
    const [table, head] = [make("table"), make("tr")];
    head.append(make("td"), ...columns.map((label) => worded("th", label, { scope: "col" })));
    table.append(head, ...rows.map((label, row) => {
      const line = make("tr");
      line.append(worded("th", label, { scope: "row" }), ...columns.map((column, at) => {
        const cell = make("td");
        cell.append(picture(cells[row * columns.length + at], `${label}, ${column}`));
        return cell;
      }));
      return line;
    }));
    return table;
  };

  let drawn = ""; // which cells are on the page
  const draw = () => {
    const { run, kind, columns, rows = [], cells } = message ?? NOTHING;
    const now = columns ? `${run} ${cells.length}` : "";
    if (now === drawn) return;
    drawn = now;
    const focused = /** @type {HTMLElement | null} */ (document.activeElement)?.dataset?.link;
    const made = columns && (kind === "ways" ? drawWays(columns, cells) : drawCross(columns, rows, cells));
    part(".rs-table").replaceChildren(...(made ? [made] : []));
    const again = focused && element.querySelector(`[data-link="${focused}"]`);
    if (again instanceof HTMLElement) again.focus();
  };

  const words = () => {
    if (state === "waiting") return texts.waiting;
    if (state === "error") return message?.error || texts.failed;
    if (!message) return "";
    const { at, count, done, cells } = message;
    if (state === "running") {
      return fill(texts.running, { at: Math.min(at + 1, count), count, percent: Math.round(100 * done) });
    }
    return fill(state === "done" ? texts.done : texts.stopped, { count, made: cells.length });
  };

  const render = () => {
    const { at, done, count, cells } = message ?? NOTHING;
    const finished = state === "done" ? count : at + done;
    const share = count ? finished / count : 0;
    part(".rs-results").hidden = state === "idle";
    part(".rs-bar").hidden = !live();
    part(".rs-bar span").style.width = `${100 * share}%`;
    part(".rs-bar").setAttribute("aria-valuenow", String(Math.round(100 * share)));
    part(".rs-said").textContent = words();
    part(".rs-halt").hidden = !live();
    part(".rs-save").hidden = live() || !cells.length;
    for (const name of [".rs-ways", ".rs-cross"]) button(name).disabled = live() || halting;
    draw();
  };

  // ---- what happens ----------------------------------------------------------------------------

  /** @type {(name: string, detail: unknown) => void} */
  const start = (name, detail) => {
    if (live()) return;
    state = "waiting";
    message = null;
    render();
    beginRun();
    trigger(name, detail);
  };

  const axis = (/** @type {string} */ name) =>
    ({ setting: select(name).value, values: input(`[name=${name}Values]`).value });

  watch("value", () => {
    const { value } = props;
    if (!value || !live() || (value.run && value.run === deadRun)) return;
    state = value.state;
    message = state === "error" ? { ...(message ?? NOTHING), error: value.error } : value;
    render();
  });

  part(".rs-ways").addEventListener("click", () => start("ways", {}));
  part("form").addEventListener("submit", (event) => {
    event.preventDefault();
    start("cross", { x: axis("x"), y: axis("y") });
  });
  part(".rs-halt").addEventListener("click", async () => {
    deadRun = message?.run || null;
    state = "stopped";
    message ??= NOTHING;
    halting = true;
    render();
    await endRun(() => trigger("halt", {}));
    halting = false;
    render();
    part(".rs-ways").focus();
  });
  part(".rs-save").addEventListener("click", () => saveFile(message?.file));
  part(".rs-table").addEventListener("click", (event) => {
    const open = within(event, "[data-link]");
    if (!open) return;
    tell(E.OPEN, { link: open.dataset.link });
    bring(document.querySelector(".rs-picture"));
  });
  hear(E.UNCOMPARED, () => {
    if (!live()) return;
    state = "error";
    render();
  });

  // ---- what the published method paints, where it was trained on the same photos -----------------

  const trained = Object.hasOwn(texts.trained, props.bundle) ? texts.trained[props.bundle] : null;
  part(".rs-trained").hidden = !trained;
  if (trained) {
    const image = /** @type {HTMLImageElement} */ (part(".rs-trained img"));
    image.src = new URL(`./published/${props.bundle}.webp`, import.meta.url).href;
    image.alt = trained.alt;
    part(".rs-trained figcaption").textContent = trained.text;
  }

  // ---- words -----------------------------------------------------------------------------------

  for (const [name, text] of Object.entries({
    h2: texts.title, ".rs-intro": texts.intro, ".rs-ways": texts.fourWays, legend: texts.axes,
    ".rs-cross": texts.paint, ".rs-values": texts.values, ".rs-halt": texts.stop, ".rs-save": texts.save,
  })) part(name).textContent = text;
  part(".rs-table").setAttribute("aria-label", texts.results);
  part(".rs-bar").setAttribute("aria-label", texts.progress);
  for (const [name, first] of FIRST) {
    const [menu, values] = [select(name), input(`[name=${name}Values]`)];
    part(`label[for="rs-${name}"]`).textContent = texts[name];
    menu.append(...Object.entries(texts.settings).map(([value, label]) => worded("option", String(label), { value })));
    menu.value = first;
    values.setAttribute("aria-label", fill(texts.valuesOf, { axis: texts[name] }));
    values.value = examples[first];
    menu.addEventListener("change", () => { values.value = examples[menu.value]; });
  }
  render();
};
