// How much blocks follow neighbors of their own can be set while there are such blocks.
import { pause } from "./dom.js";
import { ownBlocks } from "./state.js";
import { follow, state } from "./store.js";

const POLL = 100; // ms

export const watchStrength = async () => {
  const find = () => document.getElementById("rs-strength");
  while (!find()) await pause(POLL); // settings are laid out when they are ready
  const box = /** @type {HTMLElement} */ (find());
  follow(({ neighbors, grid }) => [neighbors.blocks, grid], () => {
    box.inert = !Object.keys(ownBlocks(state())).length;
  });
};
