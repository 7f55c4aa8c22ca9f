// The gallery of the database. Thousands of pictures scroll as one list, of which only the rows in
// view and a few around them exist; thumbnails have an address each, so browsers keep them.
import { carry } from "./shared/carry.js";
import { cropped } from "./shared/crop.js";
import { make, parts, shot, within } from "./shared/dom.js";
import { watchDrops } from "./shared/drops.js";
import { engine } from "./shared/engine.js";
import { E } from "./shared/events.js";
import { fileInput, hintPictures } from "./shared/patches.js";
import { labelOf } from "./shared/state.js";
import { follow, hear, state, tell } from "./shared/store.js";
import { arrow, fileOf, fill, thumb, whole } from "./shared/values.js";

const GAP = 6;
const LEAST = 62; // pixels: as many columns as fit with at least this much each
const AROUND = 4; // rows kept ready above and below

/**
 * Two bytes for each picture; small, and the same for everybody.
 * @param {string} source
 */
const fetchClasses = async (source) => {
  const answer = await fetch(fileOf(source, "classes.bin")).catch(() => null);
  return answer?.ok ? new Int16Array(await answer.arrayBuffer()) : null;
};

/** @param {import("./types").Component} component */
export const mount = ({ element, props }) => {
  const { texts } = props;
  const { part, input: field } = parts(element);
  const [list, sheet] = [part(".rs-gallery"), part(".rs-sheet")];
  /** @type {Map<number, HTMLElement>} */
  const nodes = new Map(); // item -> its element
  /** @type {number[] | null} */
  let members = null; // the pictures of the class that is searched alone; null for all
  let current = 0; // where the keys are
  let tap = "query"; // what a tap on a picture does: search from it, or add it to the neighbors

  const source = () => state().memory?.source ?? props.source;
  const length = () => (members ? members.length : state().memory?.count ?? props.count);
  const itemAt = (/** @type {number} */ place) => (members ? members[place] : place);
  const placeOf = (/** @type {number} */ item) => (members ? members.indexOf(item) : item);

  // ---- drawing ---------------------------------------------------------------------------------

  const layout = () => {
    const width = sheet.clientWidth || 300;
    const columns = Math.max(1, Math.floor((width + GAP) / (LEAST + GAP)));
    const size = (width - GAP * (columns - 1)) / columns;
    return { columns, size, pitch: size + GAP, rows: Math.ceil(length() / columns) };
  };

  /** @param {number} item */
  const build = (item) => {
    const label = labelOf(state(), item);
    const option = make("div", "rs-thumb", { role: "option", "data-item": item, "data-id": item,
      "aria-label": fill(label ? texts.pickClass : texts.pick, { item, label }),
      "aria-setsize": length(), "aria-posinset": placeOf(item) + 1 });
    const picture = shot(thumb(source(), item), 128);
    picture.decoding = "async";
    option.append(picture);
    if (label && !members) {
      const caption = make("span", "rs-thumb-class", { "aria-hidden": "true" });
      caption.textContent = label;
      option.append(caption);
    }
    return option;
  };

  /** @type {(option: HTMLElement, item: number) => void} */
  const mark = (option, item) => {
    const { query, hits } = state().neighbors;
    option.tabIndex = item === current ? 0 : -1;
    option.setAttribute("aria-selected", String(item === query?.item));
    option.classList.toggle("rs-listed", hits.some(({ id }) => id === item));
  };

  const wanted = () => {
    const { columns, pitch, rows } = layout();
    const first = whole(list.scrollTop / pitch - AROUND, 0, rows) * columns;
    const last = Math.min(length(), first + columns * (Math.ceil(list.clientHeight / pitch) + 2 * AROUND));
    const inView = Array.from({ length: Math.max(0, last - first) }, (_, n) => itemAt(first + n));
    return new Set([current, ...inView]);
  };

  const render = () => {
    const { columns, size, pitch, rows } = layout();
    sheet.style.height = `${rows * pitch - GAP}px`;
    const shown = wanted();
    for (const [item, option] of nodes) {
      if (shown.has(item)) continue;
      option.remove();
      nodes.delete(item);
    }
    for (const item of shown) {
      const option = nodes.get(item) ?? build(item);
      if (!nodes.has(item)) sheet.append(option);
      nodes.set(item, option);
      const [row, column] = [Math.floor(placeOf(item) / columns), placeOf(item) % columns];
      Object.assign(option.style, {
        top: `${row * pitch}px`, left: `${column * pitch}px`, width: `${size}px`, height: `${size}px`,
      });
      mark(option, item);
    }
  };

  // ---- a visitor's choice ----------------------------------------------------------------------

  /** @param {number} item */
  const scrollTo = (item) => {
    const { columns, size, pitch } = layout();
    const top = Math.floor(placeOf(item) / columns) * pitch;
    if (top < list.scrollTop) list.scrollTop = top;
    else if (top + size > list.scrollTop + list.clientHeight) list.scrollTop = top + size - list.clientHeight + 2 * GAP;
  };

  /** @param {number} item */
  const goTo = (item) => {
    current = item;
    scrollTo(item);
    render();
    nodes.get(item)?.focus({ preventScroll: true });
  };

  /** @param {number} item */
  const seek = (item) => {
    tell(E.SEEK);
    engine().retrieve({ item });
  };

  /** @param {number} item */
  const take = (item) => {
    current = item;
    render();
    if (tap === "add") tell(E.ADD, item);
    else seek(item);
  };

  list.addEventListener("click", (event) => {
    const option = within(event, "[data-item]");
    if (option) take(Number(option.dataset.item));
  });

  list.addEventListener("keydown", (event) => {
    const option = within(event, "[data-item]");
    if (!option || event.ctrlKey || event.metaKey) return;
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      take(Number(option.dataset.item));
      return;
    }
    const next = arrow(event.key, placeOf(Number(option.dataset.item)), layout().columns, length());
    if (next === null) return;
    event.preventDefault();
    goTo(itemAt(next));
  });

  const taps = /** @type {HTMLElement[]} */ ([...element.querySelectorAll("[data-tap]")]);
  for (const button of taps) {
    const name = button.dataset.tap ?? "";
    button.textContent = texts.taps[name];
    button.addEventListener("click", () => {
      tap = name;
      for (const other of taps) other.setAttribute("aria-pressed", String(other === button));
    });
  }

  // ---- a picture by its number -----------------------------------------------------------------

  const typed = field(".rs-number input");
  part(".rs-number span").textContent = texts.number;
  part(".rs-number").addEventListener("submit", (event) => {
    event.preventDefault();
    const item = typed.valueAsNumber;
    if (!Number.isInteger(item)) return;
    if (placeOf(item) >= 0) scrollTo(item);
    take(item);
  });

  // ---- another database, or a class of it ------------------------------------------------------

  /** @param {string} label of the class that is searched alone */
  const renderCount = (label) => {
    const scroll = list.scrollHeight > list.clientHeight + 1 ? texts.scroll : "";
    const added = members ? 0 : state().memory?.added ?? 0;
    const values = { count: (length() - added).toLocaleString("en"), label, scroll, added };
    const all = added ? texts.moreAdded : texts.more;
    typed.max = String((state().memory?.count ?? props.count) - 1);
    part(".rs-gallery-count").textContent = fill(members ? texts.moreClass : all, values);
  };

  const renew = () => {
    const { memory, classes } = state();
    const label = memory?.label ?? "";
    const number = memory ? memory.classes.indexOf(label) : -1;
    members = null;
    if (number >= 0 && classes) {
      members = [];
      for (const [item, one] of classes.entries()) if (one === number) members.push(item);
    }
    for (const option of nodes.values()) option.remove();
    nodes.clear();
    list.scrollTop = 0;
    current = itemAt(0) ?? 0;
    render();
    renderCount(label);
  };

  let known = JSON.stringify([props.source, null, 0]);
  const change = async () => {
    const { memory, classes } = state();
    if (!memory) return;
    const next = JSON.stringify([memory.source, memory.label, memory.classes.length]);
    if (next === known) return;
    known = next;
    if (memory.classes.length && !classes) {
      const found = await fetchClasses(memory.source);
      if (next !== known) return; // and yet another one was chosen
      tell(E.CLASSES, found);
    }
    renew();
  };

  // ---- a photo from elsewhere ------------------------------------------------------------------

  /** @param {File} file */
  const search = async (file) => {
    const image = await cropped(file, texts);
    if (!image) {
      tell(E.UNREAD);
      return;
    }
    tell(E.SEEK);
    engine().retrieve({ image });
  };

  hear(E.PHOTO, search);
  // chosen with the button: cut first, then sent
  document.addEventListener("change", (event) => {
    const input = fileInput("rs-upload");
    if (!event.isTrusted || !input || event.target !== input || input.files?.length !== 1) return;
    event.stopImmediatePropagation();
    const [file] = input.files;
    input.value = ""; // the same one can be chosen again
    search(file);
  }, { capture: true });
  watchDrops();

  list.setAttribute("aria-label", texts.gallery);
  part(".rs-gallery-tap").setAttribute("aria-label", texts.taps.label);
  list.addEventListener("scroll", () => requestAnimationFrame(render), { passive: true });
  new ResizeObserver(render).observe(list);
  carry(list, ".rs-thumb");
  hintPictures("rs-upload");
  renew();
  follow(({ memory }) => [memory], change);
  follow(({ neighbors }) => [neighbors], () => { // the query may also come from elsewhere
    for (const [item, option] of nodes) mark(option, item);
  });
};
