// What is searched in: a database, one class of it, or the visitor's own photos.
// The value comes whole from the server, see `Remembering.show`. Own photos are made small here, so
// that a whole folder of them is sent in seconds.
import { fillMenu, parts, worded } from "./shared/dom.js";
import { E } from "./shared/events.js";
import { follow, hear, live, state, tell } from "./shared/store.js";
import { sendAll } from "./shared/photos.js";
import { fill } from "./shared/values.js";

/** @typedef {import("./types").Memory} Memory */
/** @typedef {"sending" | "looking" | "moving"} Work */

/** @param {import("./types").Component} component */
export const mount = ({ element, props, trigger, upload, watch }) => {
  const { texts, size, most, lasting } = props;
  const { part, button, input } = parts(element);
  const files = input(".rs-files");
  /** @type {Work | null} */
  let busy = null; // what is under way
  let sent = [0, 0]; // photos of how many
  let givenUp = false;

  /** @returns {Memory} */
  const current = () => state().memory ?? { source: props.source, count: props.count, about: props.about,
    chosen: props.source, fingerprint: "", databases: [], classes: [], label: null, encoders: [],
    encoder: "", own: null, skipped: 0 };

  // ---- drawing ---------------------------------------------------------------------------------

  /** @type {(one: {key: string, label: string, count: number}) => [string, string]} */
  const named = ({ key, label, count }) =>
    [key, fill(texts.choice, { label, count: count.toLocaleString("en") })];

  /** @type {Record<string, () => [[string, string][], string]>} */
  const menus = {
    database: () => {
      const { databases, own, chosen } = current();
      return [[...databases, ...(own ? [{ ...own, label: texts.own }] : [])].map(named), chosen];
    },
    label: () => {
      const { classes, label } = current();
      /** @type {[string, string][]} */
      const each = classes.map((name) => [name, name]);
      return [classes.length ? [["", texts.allClasses], ...each] : [], label || ""];
    },
  };

  const mine = () => Boolean(current().own) && current().own?.key === current().chosen;

  const said = () => {
    if (busy === "sending") return fill(texts.sending, { done: sent[0], all: sent[1] });
    if (busy) return texts[busy];
    return mine() ? texts.kept : "";
  };

  const renderMenu = (/** @type {string} */ name) => {
    const menu = part(`[data-of="${name}"]`);
    fillMenu(menu, ...menus[name]());
    const off = Boolean(busy) || (name === "database" && live());
    /** @type {HTMLSelectElement} */ (menu.querySelector("select")).disabled = off;
  };

  const renderSkipped = () => {
    const { own, skipped } = current();
    const box = part(".rs-skipped");
    box.hidden = Boolean(busy) || !mine() || !skipped;
    if (box.hidden || !own) return;
    const { part: piece } = parts(box);
    piece("summary").textContent = fill(texts.skipped, { count: skipped });
    piece("ul").replaceChildren(...own.skipped.map((line) => worded("li", line)));
  };

  const renderWork = () => {
    const percent = busy === "sending" ? Math.round((100 * sent[0]) / Math.max(1, sent[1])) : 100;
    part(".rs-quit").hidden = busy !== "sending";
    part(".rs-bar").hidden = busy !== "sending" && busy !== "looking";
    part(".rs-bar").setAttribute("aria-valuenow", String(percent));
    part(".rs-bar span").style.transform = `scaleX(${percent / 100})`;
    part(".rs-memory").toggleAttribute("data-looking", busy === "looking");
    part(".rs-said").textContent = said();
  };

  const render = () => {
    const { own, source, count, added = 0, about, databases } = current();
    Object.keys(menus).forEach(renderMenu);
    const values = { count: (count - added).toLocaleString("en"), label: about, added };
    part(".rs-about").textContent = about ? fill(added ? texts.aboutAdded : texts.about, values) : "";
    part(".rs-about").hidden = !part("[data-of=database]").hidden;
    part(".rs-use").textContent = own ? texts.useOthers : texts.use;
    button(".rs-use").disabled = Boolean(busy) || live();
    part(".rs-return").hidden = !mine() || Boolean(busy);
    part(".rs-forget").hidden = !lasting || !own || Boolean(busy); // else they go with the page
    button(".rs-forget").disabled = live();
    button(".rs-return").disabled = live();
    renderWork();
    renderSkipped();
    part(".rs-memory").dataset.source = source;
    part(".rs-memory").dataset.databases = String(databases.length);
  };

  // ---- what happens ----------------------------------------------------------------------------

  const begin = (/** @type {Work} */ what) => {
    busy = what;
    render();
  };
  const end = () => {
    busy = null;
    render();
  };

  for (const [name, event, detail] of /** @type {const} */ ([
    ["database", "move", (/** @type {string} */ key) => ({ key })],
    ["label", "sift", (/** @type {string} */ label) => ({ label: label || null })],
  ])) {
    const { part: piece } = parts(part(`[data-of="${name}"]`));
    const select = /** @type {HTMLSelectElement} */ (piece("select"));
    piece("span").textContent = texts.menus[name];
    select.addEventListener("change", () => {
      const { value } = select;
      begin("moving"); // what is drawn is what is there, until the other is there
      trigger(event, detail(value));
    });
  }

  const use = async (/** @type {File[]} */ all) => {
    const chosen = all.slice(0, most);
    const late = all.slice(most).map(({ name }) => fill(texts.tooMany, { name, most }));
    sent = [0, chosen.length];
    givenUp = false;
    begin("sending");
    const found = await sendAll(chosen, size, upload, () => { sent[0] += 1; render(); }, () => givenUp);
    if (givenUp) return end();
    const paths = found.flatMap(({ path }) => path ?? []);
    const lost = found.filter(({ path }) => !path).map(({ name }) => fill(texts.notSent, { name }));
    begin("looking");
    trigger("photos", { files: paths, skipped: [...lost, ...late] });
  };

  files.setAttribute("aria-label", texts.use);
  part(".rs-use").addEventListener("click", () => files.click());
  files.addEventListener("change", () => {
    const chosen = [...files.files ?? []];
    files.value = ""; // the same ones can be chosen again
    if (chosen.length) use(chosen);
  });
  part(".rs-return").textContent = texts.back;
  part(".rs-return").addEventListener("click", () => {
    begin("moving");
    trigger("move", { key: current().databases[0].key });
  });
  part(".rs-forget").textContent = texts.forget;
  part(".rs-forget").addEventListener("click", () => {
    begin("moving");
    trigger("forget", {});
  });
  part(".rs-quit").textContent = texts.quit;
  part(".rs-quit").addEventListener("click", () => { givenUp = true; end(); });

  const receive = () => {
    if (!props.value) return;
    if (busy !== "sending") busy = null;
    tell(E.MEMORY, props.value);
  };
  watch("value", receive);
  hear(E.UNMOVED, () => { if (busy) end(); });
  hear(E.PHOTOS, (/** @type {File[]} */ dropped) => { if (!busy) use(dropped); });
  receive();
  follow(({ memory, phase }) => [memory, phase], render);
};
