// Below the picture: what is going on, how much of it is done, and the film of what was painted.
import { hide, make, parts, put, write } from "../shared/dom.js";
import { E } from "../shared/events.js";
import { isLive } from "../shared/state.js";
import { follow, state, tell } from "../shared/store.js";
import { cost, progress, words } from "./words.js";

/** @typedef {import("../types").Message} Message */

const FRAME = 80; // ms between two pictures of the film
const SPEECH = 3000; // ms between two lines for a screen reader, which cannot follow every frame

/**
 * @param {HTMLElement} element
 * @param {Record<string, any>} texts
 * @param {() => Message[]} reel the film of the picture on show
 * @param {() => number | null} heat
 */
export const progressOf = (element, texts, reel, heat) => {
  const { part, input, canvas } = parts(element);
  const slider = input(".rs-scrub");
  let spoken = 0;

  /** @param {string} text */
  const announce = (text) => {
    const now = Date.now();
    if (state().phase === "running" && now - spoken < SPEECH) return;
    spoken = now;
    write(part(".rs-announce"), text);
  };

  /** @param {Message | null} shown */
  const renderCost = (shown) => write(part(".rs-cost"), cost(state(), shown, heat(), texts));

  /** @type {(text: string) => void} */
  const renderFilm = (text) => {
    const last = reel().length - 1;
    const { phase, scrubbed, playing } = state();
    const open = !isLive(state()) && phase !== "error" && last > 0;
    hide(part(".rs-film"), !open);
    hide(part(".rs-bar"), open);
    if (!open) return;
    slider.max = String(last);
    slider.value = String(scrubbed ?? last);
    slider.setAttribute("aria-valuetext", text);
    part(".rs-play").setAttribute("aria-label", playing ? texts.pause : texts.play);
    part(".rs-play").classList.toggle("rs-playing", playing);
  };

  /** @param {Message | null} shown */
  const render = (shown) => {
    const { phase, scrubbed } = state();
    const percent = Math.round(100 * progress(state()));
    const text = words(state(), shown, texts);
    part(".rs-bar span").style.transform = phase === "starting" ? "" : `scaleX(${percent / 100})`;
    put(part(".rs-bar"), "aria-valuenow", percent);
    write(part(".rs-words"), text);
    renderCost(shown);
    if (scrubbed === null) announce(text);
    renderFilm(text);
    hide(asIs, phase !== "stopped" || !state().message?.grid);
  };

  // ---- the film --------------------------------------------------------------------------------

  /** @param {number} place */
  const scrub = (place) => tell(E.SCRUB, { place, last: reel().length - 1 });

  const step = () => {
    scrub((state().scrubbed ?? 0) + 1);
    if (state().scrubbed === null) tell(E.PLAY, false);
  };

  /** @type {ReturnType<typeof setInterval> | undefined} */
  let timer;
  follow(({ playing }) => [playing], () => {
    clearInterval(timer);
    if (state().playing) timer = setInterval(step, FRAME);
  });

  // a picture that was stopped has no recipe that would paint it again: what is there is saved
  const asIs = make("button", "rs-as-is", { type: "button" });
  asIs.textContent = texts.saveAsIs;
  asIs.addEventListener("click", () => canvas(".rs-pixels").toBlob((blob) => {
    if (!blob) return;
    const link = make("a", "", { download: `rissole-${state().message?.seed}-unfinished.png` });
    link.href = URL.createObjectURL(blob);
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  }));
  part(".rs-outcome .rs-tools").prepend(asIs);

  slider.setAttribute("aria-label", texts.scrub);
  slider.addEventListener("input", () => {
    const place = Number(slider.value); // before anything is drawn anew, the slider too
    tell(E.PLAY, false);
    scrub(place);
  });
  part(".rs-play").addEventListener("click", () => {
    if (!state().playing) scrub(state().scrubbed ?? 0);
    tell(E.PLAY, !state().playing);
  });
  part(".rs-bar").setAttribute("aria-label", texts.progress);

  return { render, renderCost };
};
