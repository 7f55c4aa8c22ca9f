// Carrying pictures with the mouse. Fingers scroll instead: for them, and for keys, the same works
// by tapping.
import { make, within } from "./dom.js";
import { E } from "./events.js";
import { tell } from "./store.js";

const REACH = 7; // pixels before a press becomes a carry
const page = globalThis.document?.documentElement;

export const isCarrying = () => page.classList.contains("rs-carrying");

/** @param {HTMLElement} from */
const lift = (from) => {
  const ghost = make("img", "rs-ghost", { alt: "" });
  ghost.src = from.dataset.src || from.querySelector("img")?.src || "";
  document.body.append(ghost);
  page.classList.add("rs-carrying");
  return ghost;
};

// a carry that ends on its own start would count as a click, too
const swallowClick = () => {
  const stop = (/** @type {Event} */ event) => { event.stopPropagation(); event.preventDefault(); };
  window.addEventListener("click", stop, { capture: true, once: true });
  setTimeout(() => window.removeEventListener("click", stop, { capture: true }), 0);
};

/** @type {(from: HTMLElement, down: PointerEvent) => void} */
const begin = (from, down) => {
  const id = Number(from.dataset.id);
  /** @type {HTMLElement | null} */
  let ghost = null;
  /** @type {Element | null} */
  let over = null;

  /** @param {PointerEvent} event */
  const move = (event) => {
    if (!ghost && Math.hypot(event.clientX - down.clientX, event.clientY - down.clientY) < REACH) return;
    ghost ??= lift(from);
    ghost.style.transform = `translate(${event.clientX - 28}px, ${event.clientY - 28}px)`;
    const target = document.elementFromPoint(event.clientX, event.clientY)?.closest("[data-drop]") ?? null;
    if (target === over) return;
    over?.classList.remove("rs-over");
    over = target;
    over?.classList.add("rs-over");
  };

  /** @param {PointerEvent} event */
  const end = (event) => {
    document.removeEventListener("pointermove", move);
    document.removeEventListener("pointerup", end);
    document.removeEventListener("pointercancel", end);
    if (!ghost) return;
    ghost.remove();
    page.classList.remove("rs-carrying");
    over?.classList.remove("rs-over");
    swallowClick();
    if (over && event.type === "pointerup") tell(E.DROP, { id, target: over, from });
  };

  document.addEventListener("pointermove", move);
  document.addEventListener("pointerup", end);
  document.addEventListener("pointercancel", end);
};

/**
 * Anything in `container` that matches `selector` and has data-id can be carried onto what has
 * data-drop.
 * @param {HTMLElement} container
 * @param {string} selector
 */
export const carry = (container, selector) => {
  container.addEventListener("dragstart", (event) => event.preventDefault());
  container.addEventListener("pointerdown", (down) => {
    const from = within(down, selector);
    if (from && down.button === 0 && down.pointerType !== "touch") begin(from, down);
  });
};
