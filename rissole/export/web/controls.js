// The settings and buttons that Gradio draws on the server's page, with the same ids and texts.
import { fill } from "../../app/web/shared/values.js";
import { make, worded } from "../../app/web/shared/dom.js";
import { E } from "../../app/web/shared/events.js";
import { tell } from "../../app/web/shared/store.js";
import { ORDERS } from "./recipe.js";

const MOST_STEPS = 100, MOST_FEW_STEPS = 20, MOST_GUIDANCE = 6, MOST_STRENGTH = 2;

/** @typedef {import("./session.js").Settings} Settings */

/** @param {string} id @param {string} text @param {string} [className] */
export const button = (id, text, className = "") => worded("button", text, { id, type: "button", class: className });

/** A button that asks for files. @param {string} id @param {string} text @param {(file: File) => void} take */
export const uploadButton = (id, text, take) => {
  const box = make("span", "rs-uploads"), files = make("input", "", { type: "file", accept: "image/*", hidden: "" });
  const press = button(id, text, "sm");
  press.addEventListener("click", () => files.click());
  files.addEventListener("change", () => {
    const [file] = files.files ?? [];
    if (file) take(file);
    files.value = ""; // the same one can be chosen again
  });
  box.append(press, files);
  return box;
};

/** @param {string} id @param {string} label @param {string} [info] */
const field = (id, label, info) => {
  const box = make("div", "rs-field", { id });
  box.append(worded("label", label, { for: `${id}-input` }));
  if (info) box.append(worded("p", info, { class: "rs-hint" }));
  return box;
};

/** @param {string} name @param {string} label @param {[string, string][]} options @param {string} [info] */
const choiceOf = (name, label, options, info) => {
  const box = make("fieldset", "rs-field", { id: `rs-${name}` }), row = make("div", "rs-options");
  box.append(worded("legend", label));
  if (info) box.append(worded("p", info, { class: "rs-hint" }));
  for (const [value, text] of options) {
    const option = make("label"), input = make("input", "", { type: "radio", name: `rs-${name}`, value });
    option.append(input, worded("span", text));
    row.append(option);
  }
  box.append(row);
  /** @returns {HTMLInputElement[]} */
  const inputs = () => [...box.querySelectorAll("input")];
  return {
    box,
    read: () => inputs().find((input) => input.checked)?.value ?? options[0][0],
    write: (/** @type {unknown} */ value) => {
      for (const input of inputs()) input.checked = input.value === String(value);
    },
  };
};

/** A field for words that name a class. @param {Record<string, string>} said @param {string[]} classes
 * @param {(text: string) => void} take */
export const textOf = (said, classes, take) => {
  const box = field("rs-text", said.text);
  const input = make("input", "", { type: "text", id: "rs-text-input",
    placeholder: fill(said.textClasses, { names: classes.slice(0, 3).join(", ") }) });
  input.addEventListener("keydown", ({ key, isComposing }) => {
    if (key === "Enter" && !isComposing) take(input.value);
  });
  box.append(input);
  return box;
};

/**
 * A slider with a number beside it.
 * @param {string} name @param {string} label
 * @param {{min: number, max: number, step: number}} range @param {string} [info]
 */
const sliderOf = (name, label, { min, max, step }, info) => {
  const id = `rs-${name}`, box = field(id, label, info), row = make("div", "rs-slide");
  const slide = make("input", "", { type: "range", min, max, step, "aria-label": label });
  const number = make("input", "", { type: "number", id: `${id}-input`, min, max, step });
  slide.addEventListener("input", () => { number.value = slide.value; });
  number.addEventListener("input", (event) => event.stopPropagation()); // half a number sets nothing
  number.addEventListener("change", () => {
    slide.value = number.value;
    slide.dispatchEvent(new Event("input", { bubbles: true }));
  });
  row.append(slide, number);
  box.append(row);
  return {
    box,
    /** No more than there can be. */
    limit: (/** @type {number} */ most) => {
      for (const input of [slide, number]) input.max = String(most);
      number.value = slide.value;
    },
    read: () => Number(slide.value),
    write: (/** @type {unknown} */ value) => {
      slide.max = String(Math.max(Number(slide.max), Number(value)));
      slide.value = String(value);
      number.value = slide.value;
    },
  };
};

/** @param {Record<string, string>} said */
const seedOf = (said) => {
  const box = field("rs-seed", said.seed, said.seedInfo);
  // text, since a seed may have more digits than the numbers of a browser
  const input = make("input", "",
    { type: "text", id: "rs-seed-input", inputmode: "numeric", pattern: "[0-9]{1,20}", value: "0" });
  const fresh = make("input", "", { type: "checkbox", id: "rs-new-seed-input" });
  const option = make("label", "rs-check", { id: "rs-new-seed" });
  fresh.checked = true;
  option.append(fresh, worded("span", said.random));
  box.append(input);
  return { box, option, input, fresh };
};

/**
 * @param {import("./engine.js").Facts} facts
 * @param {Record<string, any>} texts
 * @param {() => bigint} draw a new seed
 */
export const controlsOf = (facts, texts, draw) => {
  const said = texts.settings, { defaults, shape: { flow_map: few } } = facts;
  const choices = {
    order: choiceOf("order", said.order, ORDERS.map((name) => [name, said.orders[name]]), said.orderInfo),
    grid: choiceOf("grid", said.grid, ["1", "2", "4"].map((side) => [side, said.grids[side]])),
  };
  const sliders = {
    steps: sliderOf("steps", said.steps, { min: 1, max: few ? MOST_FEW_STEPS : MOST_STEPS, step: 1 },
      few ? said.fewStepsInfo : said.stepsInfo),
    guidance: sliderOf("guidance", said.guidance, { min: 0, max: MOST_GUIDANCE, step: 0.1 }, said.guidanceInfo),
    strength: sliderOf("strength", said.strength, { min: 0, max: MOST_STRENGTH, step: 0.1 }, said.strengthInfo),
    k: sliderOf("k", texts.neighbors.k, { min: 1, max: facts.most, step: 1 }),
  };
  const seed = seedOf(said), all = { ...choices, ...sliders };
  const card = make("div", "rs-card", { id: "rs-settings" });
  const boxes = [[sliders.steps.box, sliders.guidance.box], [sliders.strength.box], [seed.box, seed.option]];
  const rows = boxes.map((some) => {
    const row = make("div", "rs-line-up");
    row.append(...some);
    return row;
  });
  card.append(choices.order.box, choices.grid.box, ...rows);

  /** @param {Record<string, unknown>} changes */
  const write = ({ seed: number, fresh, ...changes }) => {
    for (const [name, value] of Object.entries(changes)) all[/** @type {keyof typeof all} */ (name)].write(value);
    if (number !== undefined) seed.input.value = String(number);
    if (fresh !== undefined) seed.fresh.checked = Boolean(fresh);
  };
  write({ order: defaults.order, grid: defaults.grid, steps: defaults.num_inference_steps,
    guidance: defaults.guidance_scale, strength: 1, seed: facts.opening?.seed ?? 0,
    k: facts.opening?.hits.length ?? Math.min(defaults.k, facts.most) });

  const read = () => ({
    k: sliders.k.read(), order: choices.order.read(), grid: Number(choices.grid.read()),
    steps: sliders.steps.read(), guidance: sliders.guidance.read(),
    strength: sliders.strength.read(), seed: seed.input.value.trim(),
  });

  return {
    card,
    k: sliders.k.box,
    limit: sliders.k.limit,
    write,
    /** Another seed, where a new one is wanted for each picture. */
    renew: () => { if (seed.fresh.checked) seed.input.value = String(draw()); },
    /** @type {() => Settings} */
    read,
    /** Says to the page what is set. */
    tell: () => {
      const { grid, k: _, ...settings } = read();
      tell(E.GRID, grid);
      tell(E.SETTINGS, settings);
    },
  };
};

/** Size of the networks, in words. @param {import("./engine.js").Facts} facts @param {Record<string, string>} said */
export const sizeOf = ({ parameters }, said) => {
  const millions = Object.fromEntries(Object.entries(parameters).map(([name, one]) => [name, (one / 1e6).toFixed(1)]));
  return fill(parameters.autoencoder ? said.size : said.sizePixels, millions);
};
