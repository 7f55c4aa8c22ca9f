// The page as a whole, before any of its components; loaded once.
import { watchAddress } from "./address.js";
import { watchKeys } from "./keys.js";
import { seeded, watchSeed } from "./live.js";
import { sayGoodbye } from "./patches.js";
import { watchPresets } from "./presets.js";
import { watchServer } from "./server.js";
import { tell } from "./store.js";
import { go, watchTurns } from "./turns.js";

// only the canvas and the neighbors, for a frame on another page; see page.css
if (new URLSearchParams(location.search).get("embed") === "1") document.documentElement.dataset.embed = "";
watchTurns();
watchKeys();
watchAddress();
watchServer();
watchSeed();
watchPresets();
sayGoodbye();
// what Python listeners call, as a script of their own: see `telling` in parts.py
Object.assign(window, { rissole: { tell, go, seeded } });
