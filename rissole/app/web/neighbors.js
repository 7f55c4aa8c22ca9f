// The query and its neighbours. The value is {query, hits: [{id, score, on, pin, twin}], blocks}:
// `blocks` holds the neighbours of single blocks, ids by "row,col". What a visitor changes is
// changed here, and the server reads it when the next picture is painted.
const { fill, make, thumb, fillMenu, tell, hear, carry, whole } = window.rissole;
const { texts, queryTexts, most } = props;
const part = (name) => element.querySelector(name);
const list = part(".rs-hits");
let labelOf = null; // class of a picture, as the gallery knows it
let held = null; // the neighbour in hand: the next block that is tapped gets it

list.setAttribute("aria-label", texts.group);
part(".rs-query-picture").alt = queryTexts.alt;

const current = () => ({ query: null, hits: [], blocks: {}, source: props.source, ...(props.value || {}) });
const hitOf = (id) => current().hits.find((hit) => hit.id === id);

const change = (changes) => {
  props.value = { ...current(), ...changes };
  render();
};
const edit = (id, changes) =>
  change({ hits: current().hits.map((hit) => (hit.id === id ? { ...hit, ...changes } : hit)) });

const say = (text) => { part(".rs-hits-hint").textContent = text; };

// ---- what a visitor can do with one neighbour --------------------------------------------------

const toggle = (id) => {
  const others = current().hits.some((hit) => hit.on && hit.id !== id);
  if (!others && hitOf(id)?.on) return say(texts.keep);
  say(texts.hint);
  edit(id, { on: !hitOf(id).on });
};

const hold = (id) => {
  held = held === id ? null : id;
  render();
  // on a small screen they would lie under the notice that tells what to do with it
  if (held !== null && matchMedia("(max-width: 960px)").matches) part(".rs-chosen").scrollIntoView({ block: "nearest" });
};

const move = (id, to) => {
  const hits = current().hits.filter((hit) => hit.id !== id);
  hits.splice(Math.max(0, to), 0, hitOf(id));
  change({ hits });
};
const shift = (id, by) => move(id, current().hits.findIndex((hit) => hit.id === id) + by);

const add = (id) => {
  const { hits } = current();
  if (hitOf(id)) return say(fill(texts.already, { item: id }));
  if (hits.length >= most) return say(fill(texts.full, { most }));
  change({ hits: [...hits, { id, score: null, on: true, pin: true, twin: null, label: labelOf?.(id) || null }] });
  say(fill(texts.added, { item: id }));
};

const remove = (id) => {
  const hits = current().hits.filter((hit) => hit.id !== id);
  if (!hits.some((hit) => hit.on)) return say(texts.keep);
  held = null;
  change({ hits });
};

const actions = [
  ["pin", (id) => edit(id, { pin: !hitOf(id).pin })],
  ["search", (id) => { held = null; trigger("pick", { item: id }); }],
  ["left", (id) => shift(id, -1)],
  ["right", (id) => shift(id, 1)],
  ["remove", remove],
];
const tools = Object.fromEntries(actions.map(([name, act]) => {
  const button = make("button", `rs-tool-${name}`, { type: "button" });
  button.addEventListener("click", () => { if (held !== null) act(held); });
  part(".rs-tools").append(button);
  return [name, button];
}));

// ---- neighbours of single blocks ---------------------------------------------------------------

const assign = ({ id, row, col }) => {
  const { blocks } = current();
  const at = `${row},${col}`;
  const own = blocks[at] || [];
  const next = own.includes(id) ? own.filter((other) => other !== id) : [...own, id].slice(-most);
  const rest = Object.fromEntries(Object.entries(blocks).filter(([key]) => key !== at));
  change({ blocks: next.length ? { ...rest, [at]: next } : rest });
};

const clear = (at) => {
  const rest = Object.entries(current().blocks).filter(([key]) => at && key !== at);
  change({ blocks: Object.fromEntries(rest) });
};

// ---- drawing -----------------------------------------------------------------------------------

const tile = (hit) => {
  const node = make("li", "rs-hit", { "data-id": hit.id });
  const pick = make("button", "rs-hit-pick", { type: "button", "data-id": hit.id });
  const picture = make("img", "", { alt: "", width: 128, height: 128 });
  picture.src = thumb(current().source, hit.id);
  pick.append(picture, make("span", "rs-twin", { "aria-hidden": "true" }), make("span", "rs-pin", { "aria-hidden": "true" }));
  pick.addEventListener("click", () => hold(hit.id));
  const power = make("button", "rs-switch", { type: "button", role: "switch" });
  power.addEventListener("click", () => toggle(hit.id));
  const row = make("div", "rs-hit-row");
  row.append(make("span", "rs-score"), power);
  node.append(pick, make("span", "rs-class", { "aria-hidden": "true" }), row);
  return node;
};

const renderQuery = (query, mine) => {
  const picture = part(".rs-query-picture");
  const foreign = typeof query?.image === "string";
  picture.hidden = !query || typeof query.text === "string";
  if (!query) return;
  if (!picture.hidden) {
    const address = foreign ? query.image : thumb(current().source, query.item);
    if (picture.getAttribute("src") !== address) picture.src = address;
  }
  const name = foreign ? (query.painted ? queryTexts.painted : queryTexts.image)
    : typeof query.text === "string" ? queryTexts.words : mine ? queryTexts.mine : queryTexts.item;
  part(".rs-query-name").textContent = fill(name, query);
};

const described = (hit) => {
  const score = hit.score === null ? "" : Number(hit.score).toFixed(2);
  const words = [fill(score ? texts.toggle : texts.plain, { item: hit.id, score })];
  if (hit.label) words.push(hit.label);
  if (hit.pin) words.push(texts.pinned);
  if (Number.isInteger(hit.twin)) words.push(fill(texts.twin, { item: hit.twin }));
  return { score, label: words.join(", ") };
};

const renderHit = (hit, node) => {
  const { score, label } = described(hit);
  const [pick, power] = [node.querySelector(".rs-hit-pick"), node.querySelector(".rs-switch")];
  node.classList.toggle("rs-off", !hit.on);
  pick.setAttribute("aria-pressed", String(held === hit.id));
  pick.setAttribute("aria-label", label);
  pick.title = label;
  power.setAttribute("aria-checked", String(Boolean(hit.on)));
  power.setAttribute("aria-label", fill(texts.switch, { item: hit.id }));
  node.querySelector(".rs-score").textContent = score || texts.noScore;
  node.querySelector(".rs-class").textContent = hit.label || "";
  node.querySelector(".rs-class").hidden = !hit.label;
  node.querySelector(".rs-pin").hidden = !hit.pin;
  node.querySelector(".rs-twin").hidden = !Number.isInteger(hit.twin);
  node.querySelector(".rs-twin").textContent = texts.twinMark;
};

let drawnFrom = null; // the database that the tiles show
const renderHits = (hits) => {
  if (drawnFrom !== current().source) list.replaceChildren();
  drawnFrom = current().source;
  const known = new Map([...list.children].map((node) => [Number(node.dataset.id), node]));
  const wanted = hits.map((hit) => known.get(hit.id) || tile(hit));
  // moving what is there keeps the focus; replacing all of it would lose it
  if (wanted.some((node, n) => list.children[n] !== node) || list.children.length !== wanted.length) {
    const focused = list.contains(document.activeElement) ? document.activeElement : null;
    list.replaceChildren(...wanted);
    focused?.focus({ preventScroll: true });
  }
  hits.forEach((hit, index) => renderHit(hit, wanted[index]));
};

const renderChosen = () => {
  const hit = held === null ? null : hitOf(held);
  part(".rs-chosen").hidden = !hit;
  if (!hit) return;
  part(".rs-chosen-name").textContent = fill(texts.held, { item: hit.id });
  for (const [name, button] of Object.entries(tools)) button.textContent = texts.tools[name];
  tools.pin.textContent = hit.pin ? texts.tools.unpin : texts.tools.pin;
  tools.pin.setAttribute("aria-pressed", String(Boolean(hit.pin)));
  const at = current().hits.indexOf(hit);
  tools.left.disabled = at === 0;
  tools.right.disabled = at === current().hits.length - 1;
};

const render = () => {
  const { query, hits, blocks, source, mine } = current();
  if (held !== null && !hitOf(held)) held = null;
  renderQuery(query, mine);
  renderHits(hits);
  renderChosen();
  const on = hits.filter((hit) => hit.on);
  part(".rs-on-count").textContent =
    hits.length ? fill(texts.count, { on: on.length, all: hits.length }) : texts.loading;
  part(".rs-neighbors").classList.toggle("rs-loading", !hits.length);
  tell("neighbors", { query, ids: on.map((hit) => hit.id), all: hits.map((hit) => hit.id), blocks, held, source });
};

// ---- what happens ------------------------------------------------------------------------------

list.addEventListener("keydown", (event) => {
  const id = Number(event.target.closest(".rs-hit")?.dataset.id);
  if (!event.altKey || !["ArrowLeft", "ArrowRight"].includes(event.key) || !hitOf(id)) return;
  event.preventDefault();
  shift(id, event.key === "ArrowLeft" ? -1 : 1);
});

hear("drop", ({ id, target, from }) => {
  if (target.dataset.drop === "block") {
    const { row, col } = target.dataset;
    if (!(current().blocks[`${row},${col}`] || []).includes(id)) assign({ id, row: whole(row, 0, 3), col: whole(col, 0, 3) });
    return;
  }
  if (!from.closest(".rs-hits")) return add(id);
  const at = [...list.children].findIndex((node) => node.classList.contains("rs-target"));
  if (at >= 0) move(id, at);
});
// while a neighbour is carried over the list, the one beneath the pointer makes room
document.addEventListener("pointermove", (event) => {
  if (!document.documentElement.classList.contains("rs-carrying")) return;
  const over = document.elementFromPoint(event.clientX, event.clientY)?.closest(".rs-hit");
  for (const node of list.children) node.classList.toggle("rs-target", node === over);
});
hear("drop", () => { for (const node of list.children) node.classList.remove("rs-target"); });
const menu = part(".rs-menu");
menu.querySelector("span").textContent = texts.near;
menu.querySelector("select").addEventListener("change", ({ target }) => {
  say(texts.searching);
  trigger("measure", { encoder: target.value });
});
hear("memory", ({ encoders, encoder }) =>
  fillMenu(menu, encoders.map((name) => [name, texts.encoders[name] || name]), encoder));
hear("unmoved", () => say(texts.hint));

// a large photo takes seconds to arrive
const fileOf = (id) => document.getElementById(id)?.parentElement.querySelector("input[type=file]");
document.addEventListener("change", ({ target }) => {
  if (!target.files?.length) return;
  if (target === fileOf("rs-upload")) part(".rs-query-name").textContent = queryTexts.reading;
  if (target === fileOf("rs-add")) say(queryTexts.reading);
}, { capture: true });
hear("unread", () => { say(texts.hint); render(); });
hear("add", add);
hear("assign", assign);
hear("clear", clear);
hear("classes", (found) => { labelOf = found; });
hear("escape", () => { if (held !== null) hold(held); });
hear("release", () => { if (held !== null) hold(held); });

watch("value", () => {
  say(texts.hint);
  render();
});
carry(list, ".rs-hit-pick");
if (!props.value) part(".rs-query-name").textContent = queryTexts.loading;
say(texts.hint);
render();
hear("listening", render); // the other components may start later than this one
