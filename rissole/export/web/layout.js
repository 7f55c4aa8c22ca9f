// The page as `rissole/app/server.py` lays it out with Gradio: the same sections in the same order,
// with the same ids and texts.
import { make, worded } from "../../app/web/shared/dom.js";
import { fill } from "../../app/web/shared/values.js";
import { button, controlsOf, sizeOf, textOf, uploadButton } from "./controls.js";
import { randomSeed } from "./session.js";

export const PARTS = /** @type {const} */ (["memory", "gallery", "neighbors", "canvas", "share", "compare", "explain"]);

/** @param {string} [id] @param {string} [className] @param {...Node} children */
const box = (id = "", className = "", ...children) => {
  const node = make("div", className);
  if (id) node.id = id;
  node.append(...children);
  return node;
};

/** @param {string} text */
const heading = (text) => box("", "rs-heading", worded("h2", text));

/** @param {Record<string, any>} texts @param {import("./engine.js").Facts} facts */
const headerOf = (texts, facts) => {
  const about = make("ul");
  about.append(worded("li", sizeOf(facts, texts.page)), worded("li", texts.browser.where));
  const rows = texts.keys.list.flatMap((/** @type {[string, string]} */ [key, does]) => {
    const term = make("dt");
    term.append(worded("kbd", key));
    return [term, worded("dd", does)];
  });
  const list = make("dl"), keys = make("dialog", "", { id: "rs-keylist", "aria-labelledby": "rs-keylist-title" });
  list.append(...rows);
  keys.append(box("", "", worded("h2", texts.keys.title, { id: "rs-keylist-title" }), list,
    worded("button", texts.keys.close, { type: "button", "data-keys": "" })));
  return box("rs-header", "", worded("a", texts.page.skip, { class: "rs-skip", href: "#rs-canvas" }),
    worded("h1", texts.page.title),
    worded("button", texts.page.keys, { type: "button", "data-keys": "", "aria-keyshortcuts": "?" }),
    worded("p", texts.page.lead), about, keys);
};

/** Rights, as `footer` in `rissole/app/margins.py` has them.
 * @param {Record<string, string>} said @param {import("./engine.js").Facts} facts */
const footerOf = (said, { card }) => box("rs-footer", "", worded("p",
  fill(card.license ? (card.label ? said.footerGallery : said.footerWeights) : said.footer, card)));

/** @param {Record<string, any>} said @param {import("./engine.js").Facts} facts */
const presetsOf = (said, { presets }) => {
  const row = box("rs-presets", "rs-line-up", box("rs-presets-label", "", worded("p", said.label)));
  const buttons = presets.map((preset) => {
    const press = button(`rs-preset-${preset.name}`, said.names[preset.name], "sm");
    row.append(press);
    return { preset, press };
  });
  return { row, buttons };
};

/**
 * @param {import("./engine.js").Facts} facts @param {Record<string, any>} texts
 * @param {{upload: (file: File) => void, add: (file: File) => void, open: (file: File) => void,
 *   describe: (text: string) => void}} take what a visitor gives
 */
export const layOut = (facts, texts, take) => {
  const root = /** @type {HTMLElement} */ (document.getElementById("rs-root"));
  const parts = Object.fromEntries(PARTS.map((name) => [name, box(`rs-${name}`)]));
  const said = texts.canvas, download = button("rs-download", said.download);
  const generate = button("rs-generate", said.generate, "primary"), stop = button("rs-stop", said.stop);
  const surprise = button("rs-surprise", texts.query.surprise, "sm");
  const problem = make("p", "rs-problem", { role: "alert", hidden: "" });
  const controls = controlsOf(facts, texts, randomSeed), presets = presetsOf(texts.presets, facts);
  const words = facts.database.classes.length ? [textOf(texts.query, facts.database.classes, take.describe)] : [];
  const near = box("", "rs-card", heading(texts.neighbors.title), parts.neighbors,
    box("rs-more-neighbors", "rs-line-up", controls.k, uploadButton("rs-add", texts.neighbors.upload, take.add)));
  const query = box("", "rs-card", heading(texts.query.title), parts.memory,
    box("", "rs-buttons rs-line-up", surprise, uploadButton("rs-upload", texts.query.upload, take.upload)),
    ...words, parts.gallery);
  controls.card.prepend(heading(texts.settings.title), presets.row);
  const top = box("rs-top", "rs-line-up", heading(said.title),
    box("rs-actions", "rs-line-up", download, stop, generate));
  const unseen = box("", "rs-unseen", uploadButton("rs-opened", texts.share.open, take.open));
  root.replaceChildren(headerOf(texts, facts), problem,
    box("rs-page", "", box("rs-paint", "", box("", "rs-card", top, parts.canvas)),
      box("rs-choose", "", near, query, controls.card)),
    box("rs-more", "", box("", "rs-card", parts.share, unseen), box("", "rs-card", parts.compare),
      box("", "rs-card", parts.explain)),
    footerOf(texts.page, facts));
  return { parts, controls, presets: presets.buttons, download, generate, stop, surprise, problem };
};
