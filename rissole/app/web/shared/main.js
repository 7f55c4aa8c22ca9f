// The page as a whole, before any of its components; loaded once.
import { watchAddress } from "./address.js";
import { E } from "./events.js";
import { watchKeys } from "./keys.js";
import { seeded, watchSeed } from "./live.js";
import { sayGoodbye } from "./patches.js";
import { watchPresets } from "./presets.js";
import { watchServer } from "./server.js";
import { hear, state, tell } from "./store.js";
import { watchStrength } from "./strength.js";
import { go, watchTurns } from "./turns.js";

// only the canvas and the neighbors, for a frame on another page; see page.css
if (new URLSearchParams(location.search).get("embed") === "1") document.documentElement.dataset.embed = "";
// the first paint hides the parts of the page until these are there, see opening.css
for (const part of [E.SETUP, E.FOUND]) {
  hear(part, () => requestAnimationFrame(() => {
    const whole = state().neighbors.hits.length && document.querySelector(".rs-canvas[data-state]");
    if (whole) document.documentElement.dataset.whole = "";
  }));
}
watchTurns();
watchKeys();
watchAddress();
watchServer();
watchSeed();
watchPresets();
watchStrength();
sayGoodbye();
// what Python listeners call, as a script of their own: see `telling` in parts.py
Object.assign(window, { rissole: { tell, go, seeded } });
