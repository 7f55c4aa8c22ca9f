// The shelf: pictures of this visit, favourites, and what can be done with one of them. A picture
// is kept as its link and a thumbnail: the same link paints the same pixels again.
const { fill, make, arrow, hear, tell, live, ending, fetchFile } = window.rissole;
const { texts, store } = props;
const CAP = { history: 24, favourites: 48 };
const THUMB = 112;
const part = (name) => element.querySelector(name);
const tool = (name) => part(`[data-do="${name}"]`);

// ---- what is kept: history for the tab, favourites for good ----------------------------------

const places = { history: () => sessionStorage, favourites: () => localStorage };
const isPicture = (value) =>
  typeof value?.link === "string" && typeof value.name === "string" &&
  typeof value.thumb === "string" && value.thumb.startsWith("data:image/");

const read = (name) => {
  try {
    const found = JSON.parse(places[name]().getItem(`rissole-${name}-${store}`));
    return Array.isArray(found) ? found.filter(isPicture).slice(0, CAP[name]) : [];
  } catch { return []; } // storage may be switched off: then nothing outlives the page
};
const write = (name) => {
  try {
    places[name]().setItem(`rissole-${name}-${store}`, JSON.stringify(kept[name]));
  } catch { /* as above, or full */ }
};

const kept = { history: read("history"), favourites: read("favourites") };
let chosen = kept.history[0] || kept.favourites[0] || null; // {link, thumb, name}
let job = null; // the file being made: {job, done}
let opening = false;

const address = ({ link }) => `${location.origin}${location.pathname}?${link}`;
const favourite = () => kept.favourites.findIndex(({ link }) => link === chosen?.link);
const say = (text) => { part(".rs-said").textContent = text; };

// ---- drawing ---------------------------------------------------------------------------------

const tile = ({ link, thumb, name }) => {
  const node = make("button", "rs-kept", {
    type: "button", role: "option", "aria-label": name, "data-link": link,
  });
  const image = make("img", "", { alt: "", width: THUMB, height: THUMB });
  image.src = thumb;
  node.append(image);
  return node;
};

const renderShelf = (name) => {
  const shelf = part(`[data-of="${name}"]`);
  const list = shelf.querySelector(".rs-strip");
  // what is there stays: a node that was replaced would lose the focus, and a double click
  const known = new Map([...list.children].map((node) => [node.dataset.link, node]));
  const wanted = kept[name].map((picture) => known.get(picture.link) || tile(picture));
  if (wanted.length !== list.children.length || wanted.some((node, n) => node !== list.children[n])) {
    list.replaceChildren(...wanted);
  }
  const here = wanted.findIndex((node) => node.dataset.link === chosen?.link);
  wanted.forEach((node, at) => {
    node.setAttribute("aria-selected", String(at === here));
    node.tabIndex = at === Math.max(0, here) ? 0 : -1;
  });
  list.hidden = !kept[name].length;
  shelf.querySelector(".rs-none").hidden = Boolean(kept[name].length);
};

const renderTools = () => {
  const off = !chosen || Boolean(job);
  for (const name of ["open", "fresh"]) tool(name).disabled = off || live();
  for (const name of ["film", "sheet"]) tool(name).disabled = off;
  // nobody else has the photos, and here they are gone with the page
  for (const name of ["favourite", "link"]) tool(name).disabled = off || Boolean(chosen.mine);
  tool("file").disabled = live();
  tool("quit").hidden = !job;
  const marked = favourite() >= 0;
  tool("favourite").setAttribute("aria-pressed", String(marked));
  tool("favourite").textContent = marked ? texts.unmark : texts.mark;
  part(".rs-picked").textContent = chosen ? fill(chosen.mine ? texts.chosenMine : texts.chosen, { name: chosen.name }) : "";
};

const render = () => {
  renderShelf("history");
  renderShelf("favourites");
  renderTools();
};

// ---- what happens ----------------------------------------------------------------------------

const choose = (picture) => {
  chosen = picture;
  part(".rs-link").hidden = true;
  say("");
  render();
};

const shrink = async (frame) => {
  const image = new Image();
  image.src = frame;
  await image.decode();
  const canvas = make("canvas", "", { width: THUMB, height: THUMB });
  canvas.getContext("2d").drawImage(image, 0, 0, THUMB, THUMB);
  return canvas.toDataURL("image/webp", 0.8);
};

const remember = async ({ state, link, seed, frame, mine }) => {
  if (state !== "done" || !link) return;
  if (opening) say("");
  opening = false;
  const known = kept.history.find((picture) => picture.link === link);
  const thumb = known ? known.thumb : await shrink(frame);
  const picture = known || { link, thumb, name: fill(texts.picture, { seed }), mine: Boolean(mine) };
  if (!known) kept.history = [picture, ...kept.history].slice(0, CAP.history);
  write("history");
  choose(picture);
};

const recall = (link, fresh = false) => {
  if (live() || ending()) return;
  if (!fresh) tell("start");
  if (fresh) say(texts.freshDone);
  trigger("recall", { link, fresh });
};

const mark = () => {
  say("");
  const at = favourite();
  if (at >= 0) kept.favourites.splice(at, 1);
  else kept.favourites = [chosen, ...kept.favourites].slice(0, CAP.favourites);
  write("favourites");
  render();
};

const copy = async () => {
  const field = part(".rs-link");
  field.value = address(chosen);
  try {
    await navigator.clipboard.writeText(field.value);
    say(texts.copied);
  } catch { // only pages of this computer or with a certificate may write to the clipboard
    field.hidden = false;
    field.select();
    say(texts.copyByHand);
  }
};

const make_file = (name) => {
  job = { job: name, done: 0 };
  say(texts.jobs[name]);
  renderTools();
  trigger(name, { link: chosen.link });
};

const finish = (text) => {
  job = null;
  say(text);
  renderTools();
};

const acts = {
  open: () => recall(chosen.link),
  fresh: () => recall(chosen.link, true),
  favourite: mark,
  link: copy,
  film: () => make_file("film"),
  sheet: () => make_file("sheet"),
  quit: () => { trigger("quit", {}); finish(texts.quitDone); },
  file: () => document.getElementById("rs-opened").click(),
};

for (const [name, act] of Object.entries(acts)) tool(name).addEventListener("click", act);

for (const shelf of element.querySelectorAll(".rs-shelf")) {
  const name = shelf.dataset.of;
  const list = shelf.querySelector(".rs-strip");
  const at = (event) => kept[name].findIndex(
    ({ link }) => link === event.target.closest("[data-link]")?.dataset.link);
  list.addEventListener("click", (event) => {
    if (at(event) >= 0) choose(kept[name][at(event)]);
  });
  list.addEventListener("dblclick", (event) => { if (at(event) >= 0) recall(chosen.link); });
  list.addEventListener("keydown", (event) => {
    if (at(event) < 0) return;
    const next = arrow(event.key, at(event), kept[name].length, kept[name].length);
    if (next !== null) {
      choose(kept[name][next]);
      list.children[next].focus();
    } else if (event.key === "Enter" && !event.ctrlKey) recall(chosen.link);
    else return;
    event.preventDefault();
  });
}

watch("value", () => {
  if (props.value?.begun && opening) tell("start"); // it can be opened: now the canvas may go
  if (!job || !props.value || !("job" in props.value)) return;
  const { job: name, done } = props.value;
  if (!name) {
    fetchFile(props.value.file);
    finish(texts.saved);
  } else if (name === job.job) say(`${texts.jobs[name]} ${Math.round(100 * Number(done) || 0)} %`);
});
hear("unfiled", () => finish(""));
hear("unopened", () => { opening = false; say(texts.unopened); });
hear("failed", () => { opening = false; });
hear("drawn", remember);
hear("phase", renderTools);
hear("open", ({ link }) => recall(link));

// ---- a picture dropped on the page -----------------------------------------------------------

const ZONES = ".rs-picture, .rs-share";
const files = (event) => [...(event.dataTransfer?.types || [])].includes("Files");
const light = (zone) => {
  for (const node of document.querySelectorAll(".rs-drop")) node.classList.remove("rs-drop");
  zone?.classList.add("rs-drop");
};
const input = () => document.getElementById("rs-opened").parentElement.querySelector("input[type=file]");
document.addEventListener("change", (event) => { // chosen or dropped
  if (event.target !== input() || !event.target.files.length) return;
  opening = true;
  say(texts.opening);
}, { capture: true });
document.addEventListener("dragover", (event) => {
  if (!files(event)) return;
  // dropped beside it, a file would take the place of the whole page
  const zone = event.target.closest?.(ZONES);
  event.preventDefault();
  event.dataTransfer.dropEffect = zone ? "copy" : "none";
  light(zone);
});
document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) light(null); });
document.addEventListener("drop", (event) => {
  light(null);
  if (!files(event)) return;
  event.preventDefault();
  if (!event.target.closest?.(ZONES)) return;
  if (live() || event.dataTransfer.files.length !== 1) return;
  input().files = event.dataTransfer.files;
  input().dispatchEvent(new Event("change", { bubbles: true }));
});

// ---- a link in the address bar ---------------------------------------------------------------

let arrived = !new URLSearchParams(location.search).has("p");
hear("neighbors", ({ ids }) => { // the page has its first query: now the link may replace it
  if (arrived || !ids.length) return;
  arrived = true;
  opening = true; // anyone may have written it: the canvas goes only when the link can be opened
  trigger("recall", { link: location.search, fresh: false });
});

part("h2").textContent = texts.title;
for (const shelf of element.querySelectorAll(".rs-shelf")) {
  const { title, none, list } = texts[shelf.dataset.of];
  shelf.querySelector("h3").textContent = title;
  shelf.querySelector(".rs-none").textContent = none;
  shelf.querySelector(".rs-strip").setAttribute("aria-label", list);
}
for (const name of ["open", "fresh", "link", "film", "sheet", "quit", "file"]) {
  tool(name).textContent = texts.tools[name];
}
part(".rs-link").setAttribute("aria-label", texts.linkLabel);
render();
tell("listening");
