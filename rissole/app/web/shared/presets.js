// The preset whose settings and neighbors are in use looks pressed.
import { put } from "./dom.js";
import { E } from "./events.js";
import { chosen, isSettled } from "./state.js";
import { follow, hear, state } from "./store.js";

const BUTTONS = "#rs-presets button";

/** What a preset sets, as it is now; steps, guidance and strength with it, the seed not. */
const setting = () => {
  const { settings: { seed: _, ...settings }, grid, neighbors } = state();
  const near = [...chosen(state())].sort((a, b) => a - b);
  return JSON.stringify([settings, grid, neighbors.blocks, near, neighbors.source]);
};

export const watchPresets = () => {
  let pressed = ""; // id of its button
  /** @type {string | null} */
  let kept = null; // what it set; null while that is on its way

  const render = () => {
    for (const button of document.querySelectorAll(BUTTONS)) put(button, "aria-pressed", button.id === pressed);
  };
  const release = () => {
    pressed = "";
    render();
  };

  document.addEventListener("click", ({ target }) => {
    const button = target instanceof Element ? target.closest(BUTTONS) : null;
    if (!button) return;
    [pressed, kept] = [button.id, null];
    render();
  });
  hear(E.SEEK, release);
  hear(E.FAILED, release);
  hear(E.DRAWN, () => { if (pressed && kept === null && isSettled(state())) kept = setting(); });
  follow(({ settings, grid, neighbors }) => [settings, grid, neighbors], () => {
    if (pressed && kept !== null && setting() !== kept) release();
  });
};
