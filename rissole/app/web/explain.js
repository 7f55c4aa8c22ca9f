// The steps of the method, shown with what is on the page now: the query, its neighbors, the
// frames of the current run. The server adds what the browser cannot know, the latents.
import { make, parts, shot, showBlock, worded } from "./shared/dom.js";
import { engine } from "./shared/engine.js";
import { E } from "./shared/events.js";
import { chosen } from "./shared/state.js";
import { follow, hear, state, tell } from "./shared/store.js";
import { fill, spread, thumb } from "./shared/values.js";

/**
 * @typedef {import("./types").Message} Message
 * @typedef {{id: string, grid: number, position: number[] | null, used: number[],
 *   own: Record<string, number[]>, frames: string[], done: boolean, source: string}} Run
 */

const STEPS = ["encode", "cut", "retrieve", "condition", "denoise", "stitch", "decode"];
const FRAMES = 4; // of the painting, in the step that denoises
const SEEN = 8; // neighbors, in the steps that show some
const PATIENCE = 150; // ms: the visit on the server changes together with the query

/** @type {(src: string | null | undefined, className?: string) => HTMLElement | null} */
const picture = (src, className) => (src ? shot(src, 64, className) : null);

/** @param {unknown} value */
const pictureIn = (value) => (typeof value === "string" && value.startsWith("data:image/") ? value : null);

/** @type {(src: string, n: number, place: number[]) => HTMLElement} */
const block = (src, n, place) => {
  const piece = make("span");
  showBlock(piece, src, n, place);
  return piece;
};

/**
 * A picture in n x n pieces with gaps between them.
 * @type {(src: string, n: number, className?: string) => HTMLElement}
 */
const tiles = (src, n, className = "") => {
  const node = make("div", `rs-pieces ${className}`);
  node.style.setProperty("--n", String(n));
  node.append(...Array.from({ length: n * n }, (_, at) => block(src, n, [Math.floor(at / n), at % n])));
  return node;
};

/** @type {(name: string, index: number, texts: Record<string, any>) => HTMLElement} */
const stepOf = (name, index, texts) => {
  const { title, alt, what, paper, module } = texts.steps[name];
  const node = make("li", "rs-step", { "data-step": name });
  const where = make("p", "rs-hint");
  where.append(`${texts.inCode} `, worded("code", module));
  node.append(worded("h3", `${index + 1}. ${title}`),
    make("div", `rs-view rs-view-${name}`, { role: "img", "aria-label": alt }),
    worded("p", what, { class: "rs-what" }),
    worded("p", fill(texts.inPaper, { line: paper }), { class: "rs-hint" }), where);
  return node;
};

/** @param {import("./types").Component} component */
export const mount = ({ element, props, trigger, watch }) => {
  const { texts } = props;
  const { part } = parts(element);
  const fold = /** @type {HTMLDetailsElement} */ (part("details"));
  /** @type {Run | null} */
  let run = null;
  /** @type {{encoded: string | null, made: string | null}} */
  let latents = { encoded: null, made: null };
  const near = make("p", "rs-near", { hidden: "" }); // how much of a copy the picture is

  // ---- the seven pictures ----------------------------------------------------------------------

  const source = () => state().neighbors.source;
  const grid = () => run?.grid || 4;
  const middle = () => { const at = grid() === 4 ? 1 : 0; return [at, at]; };
  const last = () => run?.frames.at(-1);
  const query = () => {
    const asked = state().neighbors.query;
    if (asked?.image) return pictureIn(asked.image);
    return Number.isInteger(asked?.item) ? thumb(source(), asked?.item) : null;
  };

  /** @type {Record<string, () => (HTMLElement | "" | null | undefined | false)[]>} */
  const draw = {
    encode: () => [picture(query()), picture(latents.encoded, "rs-latent")],
    cut: () => [latents.encoded && tiles(latents.encoded, grid(), "rs-latent")],
    retrieve: () => [picture(query(), "rs-query-mark"),
      ...chosen(state()).slice(0, SEEN).map((id) => picture(thumb(source(), id)))],
    condition: () => {
      const at = run?.position || middle();
      const [now, seen] = [last(), run?.own[at.join()] || run?.used || chosen(state())];
      return [now && block(now, grid(), at),
        ...seen.slice(0, SEEN).map((id) => block(thumb(run?.source || source(), id), grid(), at))];
    },
    denoise: () => spread(run?.frames || [], FRAMES).map((src) => picture(src)),
    stitch: () => [latents.made && tiles(latents.made, grid(), "rs-latent")],
    decode: () => [picture(run?.done ? last() : null)],
  };

  const render = (names = STEPS) => {
    if (!fold.open) return;
    for (const name of names) {
      const found = draw[name]().filter((one) => one instanceof HTMLElement);
      const empty = worded("p", texts.none, { class: "rs-hint" });
      part(`.rs-view-${name}`).replaceChildren(...(found.length ? found : [empty]));
    }
  };

  // ---- what happens ----------------------------------------------------------------------------

  const look = () => { if (fold.open) engine().inspect(run?.done ? run.id : null); };

  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let waiting;
  let asked = JSON.stringify([null, props.source]); // the query that is on show
  const change = () => {
    const now = JSON.stringify([state().neighbors.query, source()]);
    const other = now !== asked;
    asked = now;
    if (run && run.source !== source()) run = null; // painted from other pictures
    if (other) latents = { ...latents, encoded: null };
    render(["encode", "cut", "retrieve", "condition"]);
    if (!other) return;
    clearTimeout(waiting);
    waiting = setTimeout(look, PATIENCE);
  };

  hear(E.DRAWN, (/** @type {Message} */ message) => {
    const begins = run?.id !== message.run;
    if (begins) {
      latents = { ...latents, made: null };
      near.hidden = true;
    }
    const before = begins ? null : run;
    run = { id: message.run, grid: message.grid, source: message.source, used: message.used,
      own: message.own || {}, done: message.state === "done",
      position: message.position || before?.position || null,
      frames: [...before?.frames ?? [], message.frame] };
    render(["condition", "denoise", "stitch", "decode", ...(begins ? ["cut"] : [])]);
    if (run.done) look();
  });

  hear(E.MEASURE, (detail) => trigger("influence", detail));
  watch("value", () => {
    if (props.value?.influence) {
      tell(E.INFLUENCE, props.value.influence);
      return;
    }
    const { encoded, made, nearest, photo } = props.value || {};
    const told = [nearest && fill(texts.nearest, nearest), photo && fill(texts.photo, photo)].filter(Boolean);
    near.hidden = !told.length;
    near.textContent = told.join(" ");
    latents = { encoded: pictureIn(encoded), made: pictureIn(made) };
    render(["encode", "cut", "stitch"]);
  });

  fold.addEventListener("toggle", () => { render(); look(); });

  // ---- words and facts -------------------------------------------------------------------------

  const renderFacts = () => {
    const { memory } = state();
    const facts = { ...props.facts, ...(memory && {
      label: memory.about, pictures: memory.count.toLocaleString("en"), database: memory.fingerprint,
    }) };
    part(".rs-facts dl").replaceChildren(...Object.entries(texts.facts).flatMap(([name, { label, text }]) =>
      (name in facts ? [worded("dt", label), worded("dd", fill(text, facts))] : [])));
  };

  part("summary h2").textContent = texts.title;
  part(".rs-intro").textContent = texts.intro;
  part(".rs-steps").append(...STEPS.map((name, index) => stepOf(name, index, texts)));
  part("[data-step=decode]").append(near);
  const paper = /** @type {HTMLAnchorElement} */ (part(".rs-paper a"));
  paper.textContent = texts.paper;
  paper.href = texts.paperAddress;
  part(".rs-facts h2").textContent = fill(texts.factsTitle, props.facts);
  follow(({ memory }) => [memory], renderFacts);
  follow(({ neighbors }) => [neighbors], change);
};
