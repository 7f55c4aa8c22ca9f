// The shelf: pictures of this visit, favorites, and what can be done with one of them.
import { looked } from "./shared/address.js";
import { make, parts, penOf, shot, within } from "./shared/dom.js";
import { E } from "./shared/events.js";
import { fileInput, giveFile, saveFile } from "./shared/patches.js";
import { shelfOf } from "./shared/shelf.js";
import { VIEWS, chosen } from "./shared/state.js";
import { follow, hear, live, state, tell } from "./shared/store.js";
import { beginRun, endRun, inTurn, runWasSent } from "./shared/turns.js";
import { arrow, fill } from "./shared/values.js";

/**
 * @typedef {import("./shared/shelf.js").Kept} Kept
 * @typedef {import("./shared/shelf.js").Name} Name
 */

const NAMES = /** @type {const} */ (["history", "favorites"]);
const RUNS = /** @type {const} */ (["npz", "json", "csv"]);
const THUMB = 112;

/** What is on the canvas, small: at once, so that the newest picture is never the one before. */
const thumbnail = () => {
  const small = make("canvas", "", { width: THUMB, height: THUMB });
  penOf(small).drawImage(parts(document).canvas(".rs-pixels"), 0, 0, THUMB, THUMB);
  return small.toDataURL("image/webp", 0.8);
};

/** @param {Kept} picture */
const tile = ({ link, thumb, name }) => {
  const node = make("button", "rs-kept", { type: "button", role: "option", "aria-label": name, "data-link": link });
  node.append(shot(thumb, THUMB));
  return node;
};

/** @param {Kept} picture */
const address = ({ link }) => `${location.origin}${location.pathname}?${link}`;

/**
 * Looks at what the end of a link names.
 * @param {URLSearchParams} named
 */
const lookAt = (named) => {
  const at = named.get("at")?.match(/^([0-3]),([0-3])$/);
  if (at) tell(E.CHOOSE, [Number(at[1]), Number(at[2])]);
  const view = VIEWS.find((one) => one === named.get("view"));
  if (view) tell(E.VIEW, view);
};

/** @param {import("./types").Component} component */
export const mount = ({ element, props, trigger, watch }) => {
  const { texts, store } = props;
  const { part, input, button } = parts(element);
  const tool = (/** @type {string} */ name) => button(`[data-do="${name}"]`);
  const shelf = shelfOf(store);
  /** @type {Kept | null} */
  let picked = shelf.pictures("history")[0] || shelf.pictures("favorites")[0] || null;
  let job = ""; // the file being made
  let quitting = false;
  let opening = false;
  /** @type {URLSearchParams | null} */
  let arriving = null; // a link was opened that may name a block and a view

  const say = (/** @type {string} */ text) => { part(".rs-said").textContent = text; };

  // ---- drawing ---------------------------------------------------------------------------------

  const renderShelf = (/** @type {Name} */ name) => {
    const { part: piece } = parts(part(`[data-of="${name}"]`));
    const list = piece(".rs-strip");
    const pictures = shelf.pictures(name);
    // what is there stays: a node that was replaced would lose the focus, and a double click
    const nodes = /** @type {HTMLElement[]} */ ([...list.children]);
    const known = new Map(nodes.map((node) => [node.dataset.link, node]));
    const wanted = pictures.map((picture) => known.get(picture.link) || tile(picture));
    if (wanted.length !== nodes.length || wanted.some((node, n) => node !== nodes[n])) {
      list.replaceChildren(...wanted);
    }
    const here = wanted.findIndex((node) => node.dataset.link === picked?.link);
    wanted.forEach((node, at) => {
      node.setAttribute("aria-selected", String(at === here));
      node.tabIndex = at === Math.max(0, here) ? 0 : -1;
    });
    list.hidden = !pictures.length;
    piece(".rs-none").hidden = Boolean(pictures.length);
  };

  const renderTools = () => {
    const off = !picked || Boolean(job);
    for (const name of ["open", "fresh"]) tool(name).disabled = off || live();
    for (const name of ["film", "sheet", ...RUNS, "python"]) tool(name).disabled = off;
    // nobody else has the photos, and here they are gone with the page
    for (const name of ["favorite", "link"]) tool(name).disabled = off || Boolean(picked?.mine);
    tool("file").disabled = live();
    tool("quit").hidden = !job;
    tool("quit").disabled = quitting;
    const marked = Boolean(shelf.find("favorites", picked?.link));
    tool("favorite").setAttribute("aria-pressed", String(marked));
    tool("favorite").textContent = marked ? texts.unmark : texts.mark;
    const text = picked?.mine ? texts.chosenMine : texts.chosen;
    part(".rs-picked").textContent = picked ? fill(text, { name: picked.name }) : "";
  };

  const render = () => {
    NAMES.forEach(renderShelf);
    renderTools();
  };

  // ---- one picture -----------------------------------------------------------------------------

  const choose = (/** @type {Kept} */ picture) => {
    picked = picture;
    for (const name of [".rs-link", ".rs-code"]) part(name).hidden = true;
    say("");
    render();
  };

  const remember = (/** @type {import("./types").Message} */ { state: phase, link, seed, mine }) => {
    if (phase !== "done" || !link) return;
    if (opening) say("");
    opening = false;
    if (arriving) lookAt(arriving);
    arriving = null;
    const picture = shelf.find("history", link)
      ?? { link, thumb: thumbnail(), name: fill(texts.picture, { seed }), mine: Boolean(mine) };
    shelf.add("history", picture);
    choose(picture);
  };

  const recall = (/** @type {string} */ link, fresh = false) => inTurn(() => {
    if (live()) return;
    if (!fresh) tell(E.START);
    if (fresh) say(texts.freshDone);
    trigger("recall", { link, fresh });
  });

  const mark = (/** @type {Kept} */ picture) => {
    say("");
    if (shelf.find("favorites", picture.link)) shelf.remove("favorites", picture.link);
    else shelf.add("favorites", picture);
    render();
  };

  /** @type {(field: HTMLInputElement | HTMLTextAreaElement, text: string, done: string) => Promise<void>} */
  const toClipboard = async (field, text, done) => {
    field.value = text;
    try {
      await navigator.clipboard.writeText(text);
      say(done);
    } catch { // only pages of this computer or with a certificate may write to the clipboard
      field.hidden = false;
      field.select();
      say(texts.copyByHand);
    }
  };

  const copy = (/** @type {Kept} */ picture) => {
    const onShow = shelf.find("history", state().finished?.link) === picture;
    return toClipboard(input(".rs-link"), address(picture) + (onShow ? looked(state()) : ""), texts.copied);
  };

  // ---- files -----------------------------------------------------------------------------------

  /** @type {(name: string, event?: string) => (picture: Kept) => void} */
  const order = (name, event = name) => ({ link }) => {
    job = name;
    say(texts.jobs[name]);
    renderTools();
    beginRun();
    trigger(event, { link, kind: name });
  };

  const finish = (/** @type {string} */ text) => {
    job = "";
    say(text);
    renderTools();
  };

  /** @type {Record<string, (picture: Kept) => void>} */
  const acts = {
    open: ({ link }) => recall(link),
    fresh: ({ link }) => recall(link, true),
    favorite: mark,
    link: copy,
    film: order("film"),
    sheet: order("sheet"),
    python: ({ link }) => trigger("python", { link }),
    ...Object.fromEntries(RUNS.map((kind) => [kind, order(kind, "run")])),
  };
  for (const [name, act] of Object.entries(acts)) {
    tool(name).addEventListener("click", () => { if (picked) act(picked); });
  }
  tool("quit").addEventListener("click", async () => {
    quitting = true;
    renderTools();
    await endRun(() => trigger("quit", {}));
    quitting = false;
    if (job) finish(texts.quitDone); // else it was made meanwhile
  });
  tool("file").addEventListener("click", () => document.getElementById("rs-opened")?.click());

  for (const name of NAMES) {
    const list = part(`[data-of="${name}"] .rs-strip`);
    const at = (/** @type {Event} */ event) => shelf.pictures(name).findIndex(
      ({ link }) => link === within(event, "[data-link]")?.dataset.link);
    list.addEventListener("click", (event) => {
      if (at(event) >= 0) choose(shelf.pictures(name)[at(event)]);
    });
    list.addEventListener("dblclick", (event) => { if (at(event) >= 0 && picked) recall(picked.link); });
    list.addEventListener("keydown", (event) => {
      if (at(event) < 0) return;
      const { length } = shelf.pictures(name);
      const next = arrow(event.key, at(event), length, length);
      if (next !== null) {
        choose(shelf.pictures(name)[next]);
        /** @type {HTMLElement} */ (list.children[next]).focus();
      } else if (event.key === "Enter" && !event.ctrlKey && picked) recall(picked.link);
      else return;
      event.preventDefault();
    });
  }

  // ---- a picture or a link that is opened ------------------------------------------------------

  document.addEventListener("change", ({ target }) => { // chosen or dropped
    if (!(target instanceof HTMLInputElement) || target !== fileInput("rs-opened") || !target.files?.length) return;
    opening = true;
    say(texts.opening);
  }, { capture: true });

  hear(E.RECIPE, (file) => giveFile("rs-opened", file));

  let arrived = !new URLSearchParams(location.search).has("p");
  if (!arrived) arriving = new URLSearchParams(location.hash.slice(1)); // now: the address bar will follow
  follow(({ neighbors }) => [neighbors], () => { // the page has its first query: now the link may replace it
    if (arrived || !chosen(state()).length) return;
    arrived = true;
    opening = true; // anyone may have written it: the canvas goes only when the link can be opened
    trigger("recall", { link: location.search, fresh: false });
  });

  // ---- what happens ----------------------------------------------------------------------------

  watch("value", () => {
    const { value } = props;
    if (value?.away) location.assign(value.away); // a file that was painted in another world
    if (value?.begun && opening) { // it can be opened: now the canvas may go
      runWasSent();
      tell(E.START);
    }
    if (typeof value?.code === "string") {
      toClipboard(/** @type {HTMLTextAreaElement} */ (part(".rs-code")), value.code, texts.codeCopied);
    }
    if (!job || !value || !("job" in value)) return;
    if (!value.job) {
      saveFile(value.file);
      finish(texts.saved);
    } else if (value.job === job) say(`${texts.jobs[job]} ${Math.round(100 * Number(value.done) || 0)} %`);
  });
  hear(E.UNFILED, () => { if (job && !quitting) finish(""); }); // what was cancelled fails, too
  hear(E.UNOPENED, () => { opening = false; say(texts.unopened); });
  hear(E.FAILED, () => { opening = false; });
  hear(E.DRAWN, remember);
  hear(E.OPEN, ({ link }) => recall(link));

  part("h2").textContent = texts.title;
  for (const name of NAMES) {
    const { title, none, list } = texts[name];
    const { part: piece } = parts(part(`[data-of="${name}"]`));
    piece("h3").textContent = title;
    piece(".rs-none").textContent = none;
    piece(".rs-strip").setAttribute("aria-label", list);
  }
  for (const name of ["open", "fresh", "link", "film", "sheet", "python", ...RUNS, "quit", "file"]) {
    tool(name).textContent = texts.tools[name];
  }
  part(".rs-link").setAttribute("aria-label", texts.linkLabel);
  part(".rs-code").setAttribute("aria-label", texts.codeLabel);
  render();
  follow(({ phase }) => [phase], renderTools);
};
