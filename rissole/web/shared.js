// Helpers of the three components. Loaded once, before any of them.
window.rissole = (() => {
  "use strict";

  // "{name}" in a text becomes values.name; what comes out is only ever used as textContent.
  const fill = (text, values = {}) =>
    text.replace(/\{(\w+)\}/g, (whole, name) => (name in values ? String(values[name]) : whole));

  const make = (tag, className, attributes = {}) => {
    const node = document.createElement(tag);
    if (className) node.className = className;
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    return node;
  };

  // Thumbnails have an address of their own, relative to the page, and never change.
  const thumb = (source, item) => `${source.base}${Number(item)}.webp?v=${source.version}`;

  const whole = (value, low, high) => Math.min(high, Math.max(low, Math.trunc(Number(value) || 0)));

  // Where a key leads in a grid of `count` cells, `columns` wide; null for other keys.
  const arrow = (key, index, columns, count) => {
    const moves = {
      ArrowLeft: index - 1, ArrowRight: index + 1,
      ArrowUp: index - columns, ArrowDown: index + columns,
      Home: 0, End: count - 1,
    };
    if (!(key in moves)) return null;
    return moves[key] < 0 || moves[key] >= count ? index : moves[key];
  };

  // The components tell each other what changed without a trip to the server.
  const tell = (name, detail) => document.dispatchEvent(new CustomEvent(`rissole:${name}`, { detail }));
  const hear = (name, listener) =>
    document.addEventListener(`rissole:${name}`, (event) => listener(event.detail));

  const phase = (name) => { document.documentElement.dataset.rissole = name; };

  const press = (id) => {
    const button = document.getElementById(id);
    if (button && !button.disabled) button.click();
  };

  document.addEventListener("keydown", (event) => {
    const running = ["starting", "running"].includes(document.documentElement.dataset.rissole);
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && !running) {
      event.preventDefault();
      press("rs-generate");
    } else if (event.key === "Escape" && running) {
      press("rs-stop");
    }
  });

  return { fill, make, thumb, whole, arrow, tell, hear, phase };
})();
