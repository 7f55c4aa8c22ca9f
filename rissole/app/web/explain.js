// The steps of the method, shown with what is on the page now: the query, its neighbours, the
// frames of the current run. The server adds what the browser cannot know, the latents.
const { fill, make, thumb, hear, tell } = window.rissole;
const { texts } = props;
let { source, facts } = props;
const part = (name) => element.querySelector(name);
const fold = part("details");
const STEPS = ["encode", "cut", "retrieve", "condition", "denoise", "stitch", "decode"];
const FRAMES = 4; // of the painting, in the step that denoises

let query = null;
let ids = [];
let run = null; // {id, grid, position, used, frames, done, source}
let latents = { encoded: null, made: null };

// ---- pieces ----------------------------------------------------------------------------------

const shot = (src, className = "") => {
  const image = make("img", className, { alt: "", width: 64, height: 64 });
  image.src = src;
  return image;
};

const isPicture = (value) => typeof value === "string" && value.startsWith("data:image/");
const querySrc = () => (isPicture(query?.image) ? query.image
  : Number.isInteger(query?.item) ? thumb(source, query.item) : null);

// A picture in n x n pieces with gaps between them.
const tiles = (src, n, className = "") => {
  const node = make("div", `rs-pieces ${className}`);
  node.style.setProperty("--n", n);
  const place = (at) => (n > 1 ? `${(100 * at) / (n - 1)}%` : "0%");
  node.append(...Array.from({ length: n * n }, (_, at) => {
    const piece = make("span");
    piece.style.backgroundImage = `url("${src}")`;
    piece.style.backgroundSize = `${n * 100}%`;
    piece.style.backgroundPosition = `${place(at % n)} ${place(Math.floor(at / n))}`;
    return piece;
  }));
  return node;
};

const block = (src, n, [row, col]) => tiles(src, n).children[row * n + col];

const spread = (list, count) =>
  list.length <= count ? list
    : Array.from({ length: count }, (_, n) => list[Math.round((n * (list.length - 1)) / (count - 1))]);

// ---- the seven pictures ----------------------------------------------------------------------

const grid = () => run?.grid || 4;
const middle = () => { const at = grid() === 4 ? 1 : 0; return [at, at]; };
const last = () => run?.frames.at(-1);

const draw = {
  encode: () => [querySrc() && shot(querySrc()), latents.encoded && shot(latents.encoded, "rs-latent")],
  cut: () => [latents.encoded && tiles(latents.encoded, grid(), "rs-latent")],
  retrieve: () => [querySrc() && shot(querySrc(), "rs-query-mark"), ...ids.slice(0, 8).map((id) => shot(thumb(source, id)))],
  condition: () => {
    const at = run?.position || middle();
    const seen = (run?.own[at.join()] || run?.used || ids).slice(0, 8)
      .map((id) => block(thumb(run?.source || source, id), grid(), at));
    return [last() ? block(last(), grid(), at) : null, ...seen];
  },
  denoise: () => spread(run?.frames || [], FRAMES).map((src) => shot(src)),
  stitch: () => [latents.made && tiles(latents.made, grid(), "rs-latent")],
  decode: () => [run?.done && last() ? shot(last()) : null],
};

const figures = new Map(STEPS.map((name, index) => {
  const node = make("li", "rs-step", { "data-step": name });
  const title = make("h3");
  title.textContent = `${index + 1}. ${texts.steps[name].title}`;
  const view = make("div", `rs-view rs-view-${name}`, { role: "img", "aria-label": texts.steps[name].alt });
  const what = make("p", "rs-what");
  what.textContent = texts.steps[name].what;
  const quote = make("p", "rs-hint");
  quote.textContent = fill(texts.inPaper, { line: texts.steps[name].paper });
  const where = make("p", "rs-hint");
  const code = make("code");
  code.textContent = texts.steps[name].module;
  where.append(`${texts.inCode} `, code);
  node.append(title, view, what, quote, where);
  return [name, view];
}));

const render = (names = STEPS) => {
  if (!fold.open) return;
  for (const name of names) {
    const found = draw[name]().filter(Boolean);
    const empty = make("p", "rs-hint");
    empty.textContent = texts.none;
    figures.get(name).replaceChildren(...(found.length ? found : [empty]));
  }
};

// ---- what happens ----------------------------------------------------------------------------

const look = () => { if (fold.open) trigger("look", { run: run?.done ? run.id : null }); };

let waiting = null;
hear("neighbors", (detail) => {
  const other = JSON.stringify([detail.query, detail.source]) !== JSON.stringify([query, source]);
  if (detail.source !== source) run = null; // painted from other pictures
  ({ query, ids, source } = detail);
  if (other) latents = { ...latents, encoded: null };
  render(["encode", "cut", "retrieve", "condition"]);
  if (!other) return;
  clearTimeout(waiting);
  waiting = setTimeout(look, 150); // the visit on the server changes together with the query
});

hear("drawn", (message) => {
  if (run?.id !== message.run) {
    run = { id: message.run, frames: [], own: {}, done: false, source: message.source };
    latents = { ...latents, made: null };
  }
  run.frames.push(message.frame);
  run = { ...run, grid: message.grid, used: message.used, own: message.own || {}, done: message.state === "done" };
  run.position = message.position || run.position || null;
  render(["condition", "denoise", "stitch", "decode", ...(run.frames.length === 1 ? ["cut"] : [])]);
  if (run.done) look();
});

watch("value", () => {
  const value = props.value || {};
  latents = {
    encoded: isPicture(value.encoded) ? value.encoded : null,
    made: isPicture(value.made) ? value.made : null,
  };
  render(["encode", "cut", "stitch"]);
});

fold.addEventListener("toggle", () => { render(); look(); });

// ---- words and facts -------------------------------------------------------------------------

part("summary h2").textContent = texts.title;
part(".rs-intro").textContent = texts.intro;
part(".rs-steps").append(...[...figures.values()].map((view) => view.parentElement));
part(".rs-paper a").textContent = texts.paper;
part(".rs-paper a").href = texts.paperAddress;
part(".rs-facts h2").textContent = fill(texts.factsTitle, facts);
const renderFacts = () => part(".rs-facts dl").replaceChildren(...Object.entries(texts.facts).flatMap(([name, { label, text }]) => {
  if (!(name in facts)) return [];
  const term = make("dt");
  term.textContent = label;
  const detail = make("dd");
  detail.textContent = fill(text, facts);
  return [term, detail];
}));
hear("memory", ({ about, count, fingerprint }) => {
  facts = { ...facts, label: about, pictures: count.toLocaleString("en"), database: fingerprint };
  renderFacts();
});
renderFacts();
tell("listening");
