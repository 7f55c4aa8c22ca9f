// The query and its neighbors. What a visitor changes is changed here, and the server reads it from
// the value when the next picture is painted.
import { chip } from "./canvas/maps.js";
import { carry, isCarrying } from "./shared/carry.js";
import { fillMenu, make, parts, shot, within } from "./shared/dom.js";
import { engine } from "./shared/engine.js";
import { E } from "./shared/events.js";
import { fileInput, onError } from "./shared/patches.js";
import { follow, hear, state, tell } from "./shared/store.js";
import { fill, thumb, whole } from "./shared/values.js";

/**
 * @typedef {import("./types").Hit} Hit
 * @typedef {import("./types").Query} Query
 */

const EDITS = [E.TOGGLE, E.PIN, E.MOVE, E.ADD, E.REMOVE, E.ASSIGN, E.CLEAR];
const SMALL = "(max-width: 960px)";

/** @param {import("./types").Component} component */
export const mount = ({ element, props, trigger, watch }) => {
  const { texts, queryTexts, most } = props;
  const { part } = parts(element);
  const list = part(".rs-hits");
  const picture = /** @type {HTMLImageElement} */ (part(".rs-query-picture"));
  const name = part(".rs-query-name");
  tell(E.SETUP, { source: props.source, most });
  if (props.value) tell(E.FOUND, props.value);

  /** @param {number | null} id */
  const hitOf = (id) => state().neighbors.hits.find((hit) => hit.id === id);

  // ---- what a visitor can do with one neighbor -------------------------------------------------

  /** @param {number} id */
  const hold = (id) => {
    tell(E.HOLD, id);
    // on a small screen they would lie under the notice that tells what to do with it
    if (state().held !== null && matchMedia(SMALL).matches) part(".rs-chosen").scrollIntoView({ block: "nearest" });
  };

  /** @type {(id: number, by: number) => void} */
  const shift = (id, by) => tell(E.MOVE, { id, to: state().neighbors.hits.findIndex((hit) => hit.id === id) + by });

  /** @type {Record<string, (id: number) => void>} */
  const actions = {
    pin: (id) => tell(E.PIN, id),
    search: (id) => {
      tell(E.RELEASE);
      tell(E.SEEK);
      engine().retrieve({ item: id });
    },
    left: (id) => shift(id, -1),
    right: (id) => shift(id, 1),
    remove: (id) => tell(E.REMOVE, id),
  };
  const tools = Object.fromEntries(Object.entries(actions).map(([what, act]) => {
    const button = make("button", `rs-tool-${what}`, { type: "button" });
    button.addEventListener("click", () => {
      const { held } = state();
      if (held !== null) act(held);
    });
    part(".rs-tools").append(button);
    return [what, button];
  }));

  // ---- drawing ---------------------------------------------------------------------------------

  /** @param {Hit} hit */
  const tile = (hit) => {
    const node = make("li", "rs-hit", { "data-id": hit.id });
    const pick = make("button", "rs-hit-pick", { type: "button", "data-id": hit.id });
    pick.append(shot(thumb(state().neighbors.source, hit.id), 128), make("span", "rs-chip", { "aria-hidden": "true" }),
      make("span", "rs-twin", { "aria-hidden": "true" }), make("span", "rs-pin", { "aria-hidden": "true" }));
    pick.addEventListener("click", () => hold(hit.id));
    const power = make("button", "rs-switch", { type: "button", role: "switch" });
    power.addEventListener("click", () => tell(E.TOGGLE, hit.id));
    const row = make("div", "rs-hit-row");
    row.append(make("span", "rs-score"), power);
    node.append(pick, make("span", "rs-class", { "aria-hidden": "true" }), row);
    return node;
  };

  /** @type {(query: Query, mine: boolean | undefined) => string} */
  const described = (query, mine) => {
    if (typeof query.image === "string") return query.painted ? queryTexts.painted : queryTexts.image;
    if (typeof query.text === "string") return queryTexts.words;
    return mine ? queryTexts.mine : queryTexts.item;
  };

  const renderQuery = () => {
    const { neighbors: { query, source, mine }, reading } = state();
    picture.hidden = !query || typeof query.text === "string";
    if (reading === "query") name.textContent = queryTexts.reading;
    if (!query) return;
    const address = query.image ?? thumb(source, query.item);
    if (!picture.hidden && picture.getAttribute("src") !== address) picture.src = address;
    if (reading !== "query") name.textContent = fill(described(query, mine), { ...query });
  };

  /** @type {(hit: Hit, score: string) => string} */
  const nameOf = (hit, score) => {
    const words = [fill(score ? texts.toggle : texts.plain, { item: hit.id, score })];
    if (hit.label) words.push(hit.label);
    if (hit.pin) words.push(texts.pinned);
    if (Number.isInteger(hit.twin)) words.push(fill(texts.twin, { item: hit.twin }));
    return words.join(", ");
  };

  /**
   * The number and the color that a neighbor has on the map of the picture on show.
   * @type {(hit: Hit, mark: HTMLElement) => void}
   */
  const renderNumber = (hit, mark) => {
    const { message, neighbors } = state();
    const n = message?.grid && message.source === neighbors.source ? message.ids.indexOf(hit.id) : -1;
    mark.hidden = n < 0;
    if (n < 0) return;
    mark.textContent = String(n + 1);
    Object.assign(mark.style, chip(n));
  };

  /** @type {(hit: Hit, node: HTMLElement) => void} */
  const renderHit = (hit, node) => {
    const { part: piece } = parts(node);
    const [pick, power, twin] = [piece(".rs-hit-pick"), piece(".rs-switch"), piece(".rs-twin")];
    const score = hit.score === null ? "" : Number(hit.score).toFixed(2);
    const label = nameOf(hit, score);
    renderNumber(hit, piece(".rs-chip"));
    node.classList.toggle("rs-off", !hit.on);
    pick.setAttribute("aria-pressed", String(state().held === hit.id));
    pick.setAttribute("aria-label", label);
    pick.title = label;
    power.setAttribute("aria-checked", String(Boolean(hit.on)));
    power.setAttribute("aria-label", fill(texts.switch, { item: hit.id }));
    piece(".rs-score").textContent = score || texts.noScore;
    piece(".rs-class").textContent = hit.label || "";
    piece(".rs-class").hidden = !hit.label;
    piece(".rs-pin").hidden = !hit.pin;
    twin.hidden = !Number.isInteger(hit.twin);
    twin.textContent = texts.twinMark;
  };

  /** @type {string | null} */
  let drawnFrom = null; // the database that the tiles show
  const renderHits = () => {
    const { hits, source } = state().neighbors;
    if (drawnFrom !== source) list.replaceChildren();
    drawnFrom = source;
    const tiles = /** @type {HTMLElement[]} */ ([...list.children]);
    const known = new Map(tiles.map((node) => [Number(node.dataset.id), node]));
    const wanted = hits.map((hit) => known.get(hit.id) || tile(hit));
    // moving what is there keeps the focus; replacing all of it would lose it
    if (wanted.some((node, n) => list.children[n] !== node) || list.children.length !== wanted.length) {
      const focused = list.contains(document.activeElement) ? document.activeElement : null;
      list.replaceChildren(...wanted);
      /** @type {HTMLElement | null} */ (focused)?.focus({ preventScroll: true });
    }
    hits.forEach((hit, index) => renderHit(hit, wanted[index]));
  };

  const renderChosen = () => {
    const hit = hitOf(state().held);
    part(".rs-chosen").hidden = !hit;
    if (!hit) return;
    part(".rs-chosen-name").textContent = fill(texts.held, { item: hit.id });
    for (const [what, button] of Object.entries(tools)) button.textContent = texts.tools[what];
    tools.pin.textContent = hit.pin ? texts.tools.unpin : texts.tools.pin;
    tools.pin.setAttribute("aria-pressed", String(Boolean(hit.pin)));
    const { hits } = state().neighbors;
    tools.left.disabled = hits[0] === hit;
    tools.right.disabled = hits.at(-1) === hit;
  };

  const render = () => {
    const { hits } = state().neighbors;
    const { name: said, values } = state().notice;
    renderQuery();
    renderHits();
    renderChosen();
    part(".rs-on-count").textContent = hits.length
      ? fill(texts.count, { on: hits.filter((hit) => hit.on).length, all: hits.length }) : texts.loading;
    part(".rs-neighbors").classList.toggle("rs-loading", !hits.length);
    part(".rs-hits-hint").textContent = fill(texts[said] ?? queryTexts[said], values);
  };

  // ---- what happens ----------------------------------------------------------------------------

  list.addEventListener("keydown", (event) => {
    const id = Number(within(event, ".rs-hit")?.dataset.id);
    if (!event.altKey || !["ArrowLeft", "ArrowRight"].includes(event.key) || !hitOf(id)) return;
    event.preventDefault();
    shift(id, event.key === "ArrowLeft" ? -1 : 1);
  });

  hear(E.DROP, ({ id, target, from }) => {
    const at = [...list.children].findIndex((node) => node.classList.contains("rs-target"));
    for (const node of list.children) node.classList.remove("rs-target");
    const { row, col } = target.dataset;
    if (target.dataset.drop === "block") {
      if (state().neighbors.blocks[`${row},${col}`]?.includes(id)) return;
      tell(E.ASSIGN, { id, row: whole(row, 0, 3), col: whole(col, 0, 3) });
    } else if (!from.closest(".rs-hits")) tell(E.ADD, id);
    else if (at >= 0) tell(E.MOVE, { id, to: at });
  });
  // while a neighbor is carried over the list, the one beneath the pointer makes room
  document.addEventListener("pointermove", (event) => {
    if (!isCarrying()) return;
    const over = document.elementFromPoint(event.clientX, event.clientY)?.closest(".rs-hit");
    for (const node of list.children) node.classList.toggle("rs-target", node === over);
  });

  const menu = part(".rs-menu");
  parts(menu).part("span").textContent = texts.near;
  parts(menu).part("select").addEventListener("change", (event) => {
    tell(E.SEARCHING);
    tell(E.RESEEK);
    trigger("measure", { encoder: /** @type {HTMLSelectElement} */ (event.target).value });
  });
  follow(({ memory }) => [memory], () => {
    const { memory } = state();
    if (memory) fillMenu(menu, memory.encoders.map(({ name: one, label }) => [one, label]), memory.encoder);
  });

  // a large photo takes seconds to arrive
  document.addEventListener("change", ({ target }) => {
    if (!(target instanceof HTMLInputElement) || !target.files?.length) return;
    if (target === fileInput("rs-upload")) tell(E.READING, "query");
    if (target === fileInput("rs-add")) tell(E.READING, "neighbor");
  }, { capture: true });

  onError(queryTexts.refused, () => { if (state().reading) tell(E.UNREAD); });

  let touched = false; // what the page opens with was changed, before the server has said the same
  for (const edit of EDITS) {
    hear(edit, () => {
      touched = true;
      props.value = state().neighbors;
    });
  }
  watch("value", () => {
    const { opening, ...value } = props.value ?? {};
    if (opening && touched) props.value = state().neighbors;
    else tell(E.FOUND, value);
  });

  carry(list, ".rs-hit-pick");
  list.setAttribute("aria-label", texts.group);
  picture.alt = queryTexts.alt;
  name.textContent = queryTexts.loading;
  follow(({ neighbors, held, notice, reading }) => [neighbors, held, notice, reading], render);
  follow(({ message }) => [message?.source, message?.ids?.join()], renderHits);
};
