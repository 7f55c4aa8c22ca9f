// Ways to look at the picture: as it is, who was listened to, seams, and before against after.
import { hide, make, parts, penOf, put, shot, worded } from "../shared/dom.js";
import { E } from "../shared/events.js";
import { VIEWS, canView, side } from "../shared/state.js";
import { state, tell } from "../shared/store.js";
import { thumb } from "../shared/values.js";
import * as maps from "./maps.js";

/** @typedef {import("../types").Message} Message */

/**
 * @param {HTMLElement} element
 * @param {Record<string, any>} texts
 * @param {import("./film.js").Film} film
 * @param {{read(): ImageData}} pixels
 */
export const viewsOf = (element, texts, film, pixels) => {
  const { part, canvas, input } = parts(element);
  const [picture, overlay, before] = [part(".rs-picture"), canvas(".rs-overlay"), canvas(".rs-earlier")];
  const wipe = input(".rs-wipe input");
  /** @type {number | null} */
  let heat = null; // the seam ratio that is on show

  const buttons = VIEWS.map((name) => {
    const button = make("button", "", { type: "button", "data-view": name });
    button.textContent = texts.views[name];
    button.addEventListener("click", () => tell(E.VIEW, name));
    part(".rs-views").append(button);
    return { name, button };
  });
  part(".rs-views").setAttribute("aria-label", texts.views.label);

  /** @param {Message | null} shown */
  const renderOverlay = (shown) => {
    const { view, large } = state();
    hide(overlay, !["won", "seams"].includes(view));
    put(picture, "data-view", view);
    if (overlay.hidden || !shown) return;
    const to = penOf(overlay);
    if (view === "seams") {
      heat = maps.drawSeams(to, pixels.read(), side(state()));
      return;
    }
    const heard = maps.attention(shown);
    const one = large === null ? -1 : shown.ids.indexOf(large);
    if (one < 0) maps.drawWinners(to, heard);
    else maps.drawOne(to, heard, one);
  };

  const legend = make("ul", "rs-legend", { "aria-label": texts.legend });
  picture.after(legend);

  /** @param {Message | null} shown */
  const renderLegend = (shown) => {
    const heard = state().view === "won" && shown ? maps.attention(shown).overall() : [];
    hide(legend, !heard.length);
    const now = shown && heard.length ? `${shown.source} ${JSON.stringify(heard)}` : "";
    if (!shown || legend.dataset.shown === now) return;
    legend.dataset.shown = now;
    legend.replaceChildren(...heard.map(({ n, id, share }) => {
      const item = make("li", "", { "data-id": id });
      const number = worded("span", String(n + 1), { class: "rs-chip" });
      Object.assign(number.style, maps.chip(n));
      item.append(number, shot(thumb(shown.source, id), 28), worded("span", `${Math.round(100 * share)} %`));
      return item;
    }));
  };

  const renderWipe = () => {
    const { view, message } = state();
    const open = view === "wipe";
    hide(part(".rs-wipe"), !open);
    hide(before, !open);
    part(".rs-cells").toggleAttribute("inert", open);
    if (!open) return;
    picture.style.setProperty("--at", `${wipe.value}%`);
    const run = message?.before ?? "";
    if (before.dataset.run === run) return;
    before.dataset.run = run;
    before.width = before.height = canvas(".rs-pixels").width;
    film.image(film.final(run) ?? "").then((image) => { if (image) penOf(before).drawImage(image, 0, 0); });
  };

  wipe.setAttribute("aria-label", texts.wipe);
  wipe.addEventListener("input", renderWipe);
  for (const [n, text] of [texts.before, texts.after].entries()) {
    element.querySelectorAll(".rs-wipe-name")[n].textContent = text;
  }

  /** @param {Message | null} shown */
  const render = (shown) => {
    const s = state();
    for (const { name, button } of buttons) {
      const off = !canView(s, name);
      if (button.disabled !== off) button.disabled = off;
      put(button, "aria-pressed", s.view === name);
    }
    renderOverlay(shown);
    renderLegend(shown);
    renderWipe();
  };

  return { render, renderOverlay, heat: () => heat };
};
