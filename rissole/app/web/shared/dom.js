// What every component does with the document.

/**
 * Finds the parts of a component's template by selector; a missing one is a mistake of ours.
 * @param {ParentNode} root
 */
export const parts = (root) => {
  const find = (/** @type {string} */ selector) => {
    const node = root.querySelector(selector);
    if (!node) throw new Error(`the template has no ${selector}`);
    return node;
  };
  return {
    part: (/** @type {string} */ selector) => /** @type {HTMLElement} */ (find(selector)),
    button: (/** @type {string} */ selector) => /** @type {HTMLButtonElement} */ (find(selector)),
    input: (/** @type {string} */ selector) => /** @type {HTMLInputElement} */ (find(selector)),
    canvas: (/** @type {string} */ selector) => /** @type {HTMLCanvasElement} */ (find(selector)),
  };
};

/**
 * @param {HTMLCanvasElement} canvas
 * @param {CanvasRenderingContext2DSettings} [options]
 */
export const penOf = (canvas, options) => {
  const pen = canvas.getContext("2d", options);
  if (!pen) throw new Error("this browser does not draw");
  return pen;
};

/**
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {string} [className]
 * @param {Record<string, unknown>} [attributes]
 */
export const make = (tag, className, attributes = {}) => {
  const node = document.createElement(tag);
  if (className) node.className = className;
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, String(value));
  return node;
};

/**
 * An element that holds a text.
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {string} text
 * @param {Record<string, unknown>} [attributes]
 */
export const worded = (tag, text, attributes = {}) => {
  const node = make(tag, "", attributes);
  node.textContent = text;
  return node;
};

/**
 * A square picture.
 * @param {string} src
 * @param {number} size
 */
export const shot = (src, size, className = "") => {
  const image = make("img", className, { alt: "", width: size, height: size });
  image.src = src;
  return image;
};

// Only what changes is written: 15 times a second, all else costs more than the picture.

/**
 * @param {Element} node
 * @param {string} name
 * @param {unknown} value
 */
export const put = (node, name, value) => {
  if (node.getAttribute(name) !== String(value)) node.setAttribute(name, String(value));
};

/**
 * @param {Element} node
 * @param {unknown} text
 */
export const write = (node, text) => {
  if (node.textContent !== String(text)) node.textContent = String(text);
};

/**
 * @param {HTMLElement} node
 * @param {boolean} hidden
 */
export const hide = (node, hidden) => {
  if (node.hidden !== hidden) node.hidden = hidden;
};

/**
 * A menu for two or more [value, text]; without a choice there is no menu.
 * @param {HTMLElement} menu
 * @param {[string, string][]} options
 * @param {string} chosen
 */
export const fillMenu = (menu, options, chosen) => {
  const select = /** @type {HTMLSelectElement} */ (menu.querySelector("select"));
  menu.hidden = options.length < 2;
  const key = JSON.stringify(options);
  if (select.dataset.key !== key) {
    select.dataset.key = key;
    select.replaceChildren(...options.map(([value, text]) => worded("option", text, { value })));
  }
  select.value = chosen;
};

/**
 * Shows block (row, col) of n x n of a picture as the background of a square.
 * @param {HTMLElement} node
 * @param {string} src
 * @param {number} n
 * @param {number[]} block
 */
export const showBlock = (node, src, n, [row, col]) => {
  const place = (/** @type {number} */ at) => (n > 1 ? `${(100 * at) / (n - 1)}%` : "0%");
  node.style.backgroundImage = `url("${src}")`;
  node.style.backgroundSize = `${n * 100}%`;
  node.style.backgroundPosition = `${place(col)} ${place(row)}`;
};

/**
 * @param {Element | null} node
 * @param {ScrollLogicalPosition} [block] where on the screen
 */
export const bring = (node, block = "center") => {
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  node?.scrollIntoView({ block, behavior: still ? "instant" : "smooth" });
};

/**
 * The element at or above where an event happened that matches a selector.
 * @param {Event} event
 * @param {string} selector
 */
export const within = (event, selector) => {
  const node = event.target instanceof Element ? event.target.closest(selector) : null;
  return /** @type {HTMLElement | null} */ (node);
};

/** @param {number} ms */
export const pause = (ms) => new Promise((done) => { setTimeout(done, ms); });

/** @param {string} id */
export const press = (id) => {
  const button = /** @type {HTMLButtonElement | null} */ (document.getElementById(id));
  if (button && !button.disabled) button.click();
};
