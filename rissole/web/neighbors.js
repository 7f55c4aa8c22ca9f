// The query and its neighbours. The value is {query, hits: [{id, score, on}]}; switching a
// neighbour off changes the value here, and the server reads it when the next picture is painted.
const { fill, make, thumb, tell, hear } = window.rissole;
const { texts, queryTexts, source } = props;
const part = (name) => element.querySelector(name);
const list = part(".rs-hits");

list.setAttribute("aria-label", texts.group);
part(".rs-query-picture").alt = queryTexts.alt;

const current = () => props.value || { query: null, hits: [] };

const toggle = (id) => {
  const { query, hits } = current();
  const next = hits.map((hit) => (hit.id === id ? { ...hit, on: !hit.on } : hit));
  const allowed = next.some((hit) => hit.on);
  part(".rs-hits-hint").textContent = allowed ? texts.hint : texts.keep;
  if (!allowed) return;
  props.value = { query, hits: next };
  render();
};

const tile = (hit) => {
  const node = make("button", "rs-hit", { type: "button", "data-id": hit.id });
  const picture = make("img", "", { alt: "", width: 128, height: 128 });
  picture.src = thumb(source, hit.id);
  node.append(picture, make("span", "rs-score"), make("span", "rs-switch", { "aria-hidden": "true" }));
  node.addEventListener("click", () => toggle(hit.id));
  return node;
};

const renderQuery = (query) => {
  const picture = part(".rs-query-picture");
  picture.hidden = !query;
  if (!query) return;
  const uploaded = typeof query.image === "string";
  const address = uploaded ? query.image : thumb(source, query.item);
  if (picture.getAttribute("src") !== address) picture.src = address;
  part(".rs-query-name").textContent = uploaded ? queryTexts.image : fill(queryTexts.item, query);
};

const renderHits = (hits) => {
  const known = [...list.children].map((node) => Number(node.dataset.id));
  if (known.join() !== hits.map((hit) => hit.id).join()) list.replaceChildren(...hits.map(tile));
  hits.forEach((hit, index) => {
    const node = list.children[index];
    const score = Number(hit.score).toFixed(2);
    node.setAttribute("aria-pressed", String(Boolean(hit.on)));
    node.setAttribute("aria-label", fill(texts.toggle, { item: hit.id, score }));
    node.querySelector(".rs-score").textContent = score;
  });
};

const render = () => {
  const { query, hits } = current();
  renderQuery(query);
  renderHits(hits);
  const on = hits.filter((hit) => hit.on);
  part(".rs-on-count").textContent =
    hits.length ? fill(texts.count, { on: on.length, all: hits.length }) : texts.loading;
  tell("neighbors", { query, ids: on.map((hit) => hit.id) });
};

watch("value", () => {
  part(".rs-hits-hint").textContent = texts.hint;
  render();
});
if (!props.value) part(".rs-query-name").textContent = queryTexts.loading;
part(".rs-hits-hint").textContent = texts.hint;
render();
hear("listening", render); // the other components may start later than this one
