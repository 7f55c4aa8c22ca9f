// The page without a server: puts the components where Gradio would, gives them what Gradio gives
// (`element, props, trigger, watch`), and lets a visit in this tab answer them.
import { mount as mountCanvas } from "../../app/web/canvas.js";
import { mount as mountCompare } from "../../app/web/compare.js";
import { mount as mountExplain } from "../../app/web/explain.js";
import { mount as mountGallery } from "../../app/web/gallery.js";
import { mount as mountMemory } from "../../app/web/memory.js";
import { mount as mountNeighbors } from "../../app/web/neighbors.js";
import { watchAddress } from "../../app/web/shared/address.js";
import { make } from "../../app/web/shared/dom.js";
import { E } from "../../app/web/shared/events.js";
import { watchKeys } from "../../app/web/shared/keys.js";
import { watchSeed } from "../../app/web/shared/live.js";
import { hear, state, tell } from "../../app/web/shared/store.js";
import { watchPresets } from "../../app/web/shared/presets.js";
import { watchStrength } from "../../app/web/shared/strength.js";
import { go, watchTurns } from "../../app/web/shared/turns.js";
import { fill } from "../../app/web/shared/values.js";
import { mount as mountShare } from "../../app/web/share.js";
import { lacking } from "./ability.js";
import { sizeOf } from "./controls.js";
import { get } from "./files.js";
import { layOut, PARTS } from "./layout.js";
import { remote } from "./remote.js";
import { MOST } from "./search.js";
import { visitOf } from "./visit.js";

const BASE = new URL("../../", import.meta.url).href;
const PAGE = `${BASE}app/web/`;
const ADAPTER = "rissole-adapter"; // where the browser keeps what was fastest
const MOST_PHOTOS = 256; // of a visitor's own
const MOUNTS = {
  memory: mountMemory, gallery: mountGallery, neighbors: mountNeighbors, canvas: mountCanvas, share: mountShare,
  compare: mountCompare, explain: mountExplain,
};

/**
 * What a component gets from Gradio, without Gradio.
 * @param {HTMLElement} element
 * @param {Record<string, any>} first its properties
 * @param {(event: string, detail: any) => void} heard
 * @param {(file: File) => Promise<{path: string}>} upload what becomes of a file that it would send
 */
const shim = (element, first, heard, upload) => {
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
      upload,
    },
    give: (/** @type {unknown} */ value) => {
      values.value = value;
      for (const changed of watchers.value ?? []) changed();
    },
  };
};

/** @param {string} file */
const textOf = async (file) => (await get(`${PAGE}${file}`)).text();

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

/** What each component knows from the beginning.
 * @param {import("./engine.js").Facts} facts @param {Record<string, any>} texts
 * @param {ReturnType<typeof import("./controls.js").controlsOf>} controls
 * @returns {Record<string, Record<string, any>>} */
const propsOf = (facts, texts, controls) => {
  const { database: { key: source, count, label: about }, opening, card } = facts;
  const common = { source, count, about };
  const first = opening && { query: { item: opening.item }, hits: opening.hits, blocks: {}, source, mine: false };
  return {
    memory: { texts: texts.memory, ...common, size: 2 * facts.image_size, most: MOST_PHOTOS, lasting: true },
    gallery: { texts: texts.query, ...common },
    neighbors: { texts: texts.neighbors, queryTexts: texts.query, ...common, most: MOST, value: first },
    canvas: { texts: texts.canvas, ...common, grid: facts.defaults.grid, size: facts.image_size, alone: true,
      showcase: opening?.address ?? null, settings: controls.read(),
      live: facts.shape.flow_map }, // few-step networks are fast enough to follow what is changed
    share: { texts: texts.share, store: facts.bundle },
    compare: { texts: texts.compare, few: facts.shape.flow_map, bundle: facts.name },
    explain: { texts: texts.explain, ...common, facts: { ...card, size: sizeOf(facts, texts.page) } },
  };
};

/** Fetches facts, texts and templates, builds the page, and only then loads what is heavy. */
const start = async () => {
  const [facts, texts, own] = await Promise.all([get(`${BASE}facts.json`), get(`${PAGE}texts.json`),
    get(new URL("texts.json", import.meta.url).href)].map(async (answer) => (await answer).json()));
  for (const [name, some] of Object.entries(own)) texts[name] = { ...texts[name], ...some };
  const cannot = refusal(texts.browser), loading = /** @type {HTMLElement} */ (document.getElementById("rs-loading"));
  if (cannot) { loading.textContent = cannot; return; }
  const templates = Object.fromEntries(await Promise.all(PARTS.map(async (name) =>
    [name, await textOf(`${name}.html`)])));
  document.title = `${texts.page.title} ${facts.name}`;

  /** @type {Record<string, (value: unknown) => void>} */
  const gives = {};
  const engine = remote(new Worker(new URL("worker.js", import.meta.url), { type: "module" }));
  const page = layOut(facts, texts, {
    upload: (file) => { visit.upload(file); }, add: (file) => { visit.add(file); },
    open: (file) => { visit.restore(file); }, describe: (text) => { visit.describe(text); },
  });
  const { controls, problem, download, generate } = page;
  gives.problem = (line) => {
    problem.textContent = `${texts.errors.title}: ${line}`;
    problem.hidden = false;
  };
  const visit = visitOf({ engine, facts, texts, controls, save, give: (name, value) => {
    if (name !== "problem") problem.hidden = true;
    gives[name]?.(value);
  } });

  watchTurns();
  watchKeys();
  watchAddress();
  watchSeed();
  watchPresets();
  watchStrength();
  Object.assign(window, { rissole: { tell, go } });
  const props = propsOf(facts, texts, controls);
  for (const name of PARTS) {
    page.parts[name].innerHTML = templates[name]; // a file of this page, without anything of a visitor in it
    const { component, give } = shim(page.parts[name], props[name],
      // afterwards, as from a server: whoever asks listens before there is an answer
      (event, detail) => { queueMicrotask(() => visit.events[event]?.(detail)); },
      async (file) => ({ path: await engine.call("photo", file) }));
    gives[name] = give;
    MOUNTS[name](component);
  }

  page.surprise.addEventListener("click", () => { visit.surprise(); });
  page.stop.addEventListener("click", () => { visit.stop(); });
  // afterwards, when the page's state has heard of it: a sketch is finished with its own seed
  generate.addEventListener("click", () => setTimeout(() => {
    if (!state().sameSeed) controls.renew();
    visit.paint();
  }));
  for (const { preset, press } of page.presets) {
    press.addEventListener("click", async () => { if (await visit.preset(preset)) go(); });
  }
  controls.k.addEventListener("input", () => {
    tell(E.RESEEK);
    visit.again();
  });
  controls.card.addEventListener("input", () => {
    controls.tell();
    tell(E.CHANGE);
  });
  download.addEventListener("click", async () => {
    const file = await visit.file();
    if (file) save(file.blob, file.name);
  });
  hear(E.PHASE, (phase) => { download.toggleAttribute("disabled", phase !== "done"); });
  visit.begin();

  const megabytes = (/** @type {number} */ bytes) => (bytes / 1e6).toFixed(0);
  try {
    const { adapter } = await engine.open(BASE, knownAdapter(), (done, all) => {
      loading.textContent = fill(texts.browser.loading, { done: megabytes(done), all: megabytes(all) });
    });
    keepAdapter(adapter);
    document.documentElement.dataset.adapter = `${adapter.kind}-${adapter.threads}`;
    loading.hidden = true;
  } catch (error) {
    loading.textContent = `${texts.browser.failed} ${error instanceof Error ? error.message : error}`;
    return;
  }
  if (!("serviceWorker" in navigator && isSecureContext)) return;
  if (!navigator.serviceWorker.controller) await engine.call("keep").catch(() => {}); // or it comes once more
  navigator.serviceWorker.register(`${BASE}sw.js`).catch(() => {});
};

start();
