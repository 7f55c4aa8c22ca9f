// Encoders side by side: what each of them finds nearest to the query. It is asked for when it is
// opened, and again when the query changes while it is open.
import { make, parts, shot, within, worded } from "./shared/dom.js";
import { E } from "./shared/events.js";
import { follow, tell } from "./shared/store.js";
import { fill, thumb } from "./shared/values.js";

/**
 * @typedef {{name: string, label: string, hits: {id: number, score: number}[]}} Row
 */

/** @param {import("./types").Component} component */
export const mount = ({ element, props, trigger, watch }) => {
  const { texts } = props;
  const { part } = parts(element);
  const fold = /** @type {HTMLDetailsElement} */ (part("details"));

  /** @type {(hit: Row["hits"][0], source: string, shared: boolean) => HTMLElement} */
  const tile = ({ id, score }, source, shared) => {
    const label = fill(shared ? texts.shared : texts.alone, { item: id, score: score.toFixed(2) });
    const button = make("button", shared ? "" : "rs-other-way", { type: "button", "data-id": id, "aria-label": label });
    button.title = label;
    button.append(shot(thumb(source, id), 64));
    const node = make("li");
    node.append(button);
    return node;
  };

  const render = () => {
    /** @type {{rows?: Row[], source?: string}} */
    const { rows = [], source = "" } = props.value ?? {};
    const first = new Set(rows[0]?.hits.map(({ id }) => id));
    part(".rs-sides-rows").replaceChildren(...rows.flatMap(({ label, hits }, n) => {
      const heading = worded("h3", label);
      const same = hits.filter(({ id }) => first.has(id)).length;
      heading.append(worded("span", n ? fill(texts.same, { same, all: hits.length }) : texts.used));
      const list = make("ul", "", { "aria-label": label });
      list.append(...hits.map((hit) => tile(hit, source, first.has(hit.id))));
      return [heading, list];
    }));
  };

  const ask = () => { if (fold.open) trigger("sides", {}); };

  part("summary").textContent = texts.title;
  part(".rs-hint").textContent = texts.hint;
  fold.addEventListener("toggle", ask);
  part(".rs-sides-rows").addEventListener("click", (event) => {
    const button = within(event, "[data-id]");
    if (button) tell(E.ADD, Number(button.dataset.id));
  });
  watch("value", render);
  // the query and the encoder, not what a visitor changes in the neighbors
  follow(({ neighbors, memory }) => [JSON.stringify(neighbors.query), memory?.encoder, memory?.label], ask);
  render();
};
