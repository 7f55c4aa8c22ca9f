// The page without a server: puts the components where Gradio would, gives them what Gradio gives
// (`element, props, trigger, watch`), and lets a visit in this tab answer them.
import { mount as mountCanvas } from "../../app/web/canvas.js";
import { mount as mountGallery } from "../../app/web/gallery.js";
import { mount as mountMemory } from "../../app/web/memory.js";
import { mount as mountNeighbors } from "../../app/web/neighbors.js";
import { make, worded } from "../../app/web/shared/dom.js";
import { watchAddress } from "../../app/web/shared/address.js";
import { E } from "../../app/web/shared/events.js";
import { watchKeys } from "../../app/web/shared/keys.js";
import { hear, state, tell } from "../../app/web/shared/store.js";
import { go, watchTurns } from "../../app/web/shared/turns.js";
import { mount as mountShare } from "../../app/web/share.js";
import { lacking } from "./ability.js";
import { button, controlsOf, sizeOf, uploadButton } from "./controls.js";
import { get } from "./files.js";
import { remote } from "./remote.js";
import { randomSeed, visitOf } from "./visit.js";

const BASE = new URL("../../", import.meta.url).href;
const PAGE = `${BASE}app/web/`;
const ADAPTER = "rissole-adapter"; // where the browser keeps what was fastest
const MOUNTS = {
  memory: mountMemory, gallery: mountGallery, neighbors: mountNeighbors, canvas: mountCanvas, share: mountShare,
};

/**
 * What a component gets from Gradio, without Gradio.
 * @param {HTMLElement} element
 * @param {Record<string, any>} first its properties
 * @param {(event: string, detail: any) => void} heard
 */
const shim = (element, first, heard) => {
  /** @type {Record<string, (() => void)[]>} */
  const watchers = {};
  const values = { ...first };
  return {
    component: {
      element,
      // what a component writes itself wakes nobody, as in Gradio
      props: values,
      trigger: heard,
      watch: (/** @type {string} */ name, /** @type {() => void} */ changed) => {
        (watchers[name] ??= []).push(changed);
      },
      upload: async () => { throw new Error("nothing is sent anywhere"); },
    },
    give: (/** @type {unknown} */ value) => {
      values.value = value;
      for (const changed of watchers.value ?? []) changed();
    },
  };
};

/** @param {string} file */
const textOf = async (file) => (await get(`${PAGE}${file}`)).text();

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
  return box("rs-header", "", worded("h1", texts.page.title),
    worded("button", texts.page.keys, { type: "button", "data-keys": "", "aria-keyshortcuts": "?" }),
    worded("p", texts.page.lead), about, keys);
};

/** @param {Blob} blob @param {string} name */
const save = (blob, name) => {
  const link = make("a", "", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
};

/** @returns {unknown} the adapter that was best the last time */
const knownAdapter = () => {
  try { return JSON.parse(localStorage.getItem(ADAPTER) ?? "null"); } catch { return null; }
};

/** @param {unknown} adapter */
const keepAdapter = (adapter) => {
  try { localStorage.setItem(ADAPTER, JSON.stringify(adapter)); } catch { /* for this page, then */ }
};

/** Why this browser cannot paint, or an empty text. @param {{cannot: string, lacks: Record<string, string>}} said */
const refusal = (said) => {
  const what = lacking().map((name) => said.lacks[name]).join(", ");
  return what && said.cannot.replace("{what}", what);
};

/** The page itself. @param {import("./engine.js").Facts} facts @param {Record<string, any>} texts */
const layOut = (facts, texts) => {
  const root = /** @type {HTMLElement} */ (document.getElementById("rs-root"));
  const parts = Object.fromEntries(Object.keys(MOUNTS).map((name) => [name, box(`rs-${name}`)]));
  const said = texts.canvas, download = button("rs-download", said.download);
  const generate = button("rs-generate", said.generate, "primary");
  const actions = box("rs-actions", "rs-line-up", download, button("rs-stop", said.stop), generate);
  const problem = make("p", "rs-problem", { role: "alert", hidden: "" });
  const buttons = box("", "rs-buttons rs-line-up"), controls = controlsOf(facts, texts, randomSeed);
  const query = box("", "rs-card", heading(texts.query.title), parts.memory, buttons, parts.gallery);
  const near = box("", "rs-card", heading(texts.neighbors.title), parts.neighbors, controls.k);
  const top = box("rs-top", "rs-line-up", heading(said.title), actions);
  controls.card.prepend(heading(texts.settings.title));
  const choose = box("rs-choose", "", near, query, controls.card);
  const paint = box("rs-paint", "", box("", "rs-card", top, parts.canvas));
  const unseen = box("", "rs-unseen");
  root.replaceChildren(headerOf(texts, facts), problem, box("rs-page", "", paint, choose),
    box("rs-more", "", box("", "rs-card", parts.share, unseen)));
  return { parts, controls, buttons, unseen, download, generate, problem };
};

/** Fetches facts, texts and templates, builds the page, and only then loads what is heavy. */
const start = async () => {
  const [facts, texts, own] = await Promise.all([get(`${BASE}facts.json`), get(`${PAGE}texts.json`),
    get(new URL("texts.json", import.meta.url).href)].map(async (answer) => (await answer).json()));
  Object.assign(texts, own);
  const cannot = refusal(texts.browser), loading = /** @type {HTMLElement} */ (document.getElementById("rs-loading"));
  if (cannot) { loading.textContent = cannot; return; }
  const templates = Object.fromEntries(await Promise.all(Object.keys(MOUNTS).map(async (name) =>
    [name, await textOf(`${name}.html`)])));
  const { parts, controls, buttons, unseen, download, generate, problem } = layOut(facts, texts);
  document.title = `${texts.page.title} ${facts.name}`;

  /** @type {Record<string, (value: unknown) => void>} */
  const gives = {
    problem: (line) => {
      problem.textContent = `${texts.errors.title} ${line}`;
      problem.hidden = false;
    },
  };
  const worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" });
  const engine = remote(worker);
  const visit = visitOf(engine, facts, texts, controls, (name, value) => {
    if (name !== "problem") problem.hidden = true;
    gives[name]?.(value);
  });

  const common = { source: facts.database.key, count: facts.database.count, about: facts.database.label };
  /** @type {Record<string, Record<string, any>>} */
  const props = {
    memory: { texts: texts.memory, ...common, size: 2 * facts.image_size, most: 256 },
    gallery: { texts: texts.query, ...common },
    neighbors: { texts: texts.neighbors, queryTexts: texts.query, ...common, most: 16 },
    canvas: { texts: texts.canvas, ...common, grid: facts.defaults.grid, size: facts.image_size, alone: true,
      // few-step networks are fast enough to follow what is changed
      settings: controls.read(), live: facts.shape.flow_map },
    share: { texts: texts.share, store: facts.bundle },
  };
  buttons.append(button("rs-surprise", texts.query.surprise, "sm"),
    uploadButton("rs-upload", texts.query.upload, (file) => { visit.upload(file); }));
  unseen.append(uploadButton("rs-opened", texts.share.open ?? "", (file) => { visit.restore(file); }));
  watchTurns();
  watchKeys();
  watchAddress();
  Object.assign(window, { rissole: { tell, go } });
  for (const [name, mount] of Object.entries(MOUNTS)) {
    parts[name].innerHTML = templates[name]; // a file of this page, without anything of a visitor in it
    const { component, give } = shim(parts[name], props[name], (event, detail) => { visit.events[event]?.(detail); });
    gives[name] = give;
    mount(component);
  }

  document.getElementById("rs-surprise")?.addEventListener("click", () => { visit.surprise(); });
  document.getElementById("rs-stop")?.addEventListener("click", () => { visit.stop(); });
  // afterwards, when the page's state has heard of it: a sketch is finished with its own seed
  generate.addEventListener("click", () => setTimeout(() => {
    if (!state().sameSeed) controls.renew();
    visit.paint();
  }));
  controls.k.addEventListener("change", () => {
    tell(E.RESEEK);
    visit.again();
  });
  controls.card.addEventListener("change", () => {
    const { grid, k: _, ...settings } = controls.read();
    tell(E.GRID, grid);
    tell(E.SETTINGS, settings);
    tell(E.CHANGE);
  });
  download.addEventListener("click", async () => {
    const file = await visit.file();
    if (file) save(file.blob, file.name);
  });
  hear(E.PHASE, (phase) => { download.toggleAttribute("disabled", phase !== "done"); });

  const megabytes = (/** @type {number} */ bytes) => (bytes / 1e6).toFixed(0);
  generate.toggleAttribute("disabled", true);
  try {
    const { adapter } = await engine.open(BASE, knownAdapter(), (loaded, all) => {
      loading.textContent = texts.browser.loading.replace("{done}", megabytes(loaded)).replace("{all}", megabytes(all));
    });
    keepAdapter(adapter);
    document.documentElement.dataset.adapter = `${adapter.kind}-${adapter.threads}`;
    loading.hidden = true;
  } catch (error) {
    loading.textContent = `${texts.browser.failed} ${error instanceof Error ? error.message : error}`;
    return;
  }
  generate.toggleAttribute("disabled", false);
  visit.remember();
  await visit.surprise();
  if ("serviceWorker" in navigator && isSecureContext) navigator.serviceWorker.register(`${BASE}sw.js`).catch(() => {});
};

start();
