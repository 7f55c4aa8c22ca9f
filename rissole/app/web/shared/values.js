// Small functions of plain values; nothing here knows of a page.

/**
 * "{name}" in a text becomes values.name, "{name:call|calls}" the word that goes with that number;
 * what comes out is only ever used as textContent.
 * @param {string} text
 * @param {Record<string, unknown>} [values]
 */
export const fill = (text, values = {}) =>
  text.replace(/\{(\w+)(?::([^|}]*)\|([^}]*))?\}/g, (whole, name, one, many) => {
    if (!(name in values)) return whole;
    const value = String(values[name]);
    if (one === undefined) return value;
    return value === "1" ? one : many;
  });

/**
 * A whole number within bounds, whatever was given.
 * @param {unknown} value
 * @param {number} low
 * @param {number} high
 */
export const whole = (value, low, high) =>
  Math.min(high, Math.max(low, Math.trunc(Number(value) || 0)));

/**
 * Where a key leads in a grid of `count` cells, `columns` wide; null for other keys.
 * @param {string} key
 * @param {number} index
 * @param {number} columns
 * @param {number} count
 */
export const arrow = (key, index, columns, count) => {
  /** @type {Record<string, number>} */
  const moves = {
    ArrowLeft: index - 1, ArrowRight: index + 1,
    ArrowUp: index - columns, ArrowDown: index + columns,
    Home: 0, End: count - 1,
  };
  if (!(key in moves)) return null;
  return moves[key] < 0 || moves[key] >= count ? index : moves[key];
};

/**
 * Up to `count` of a list, evenly spread, the first and the last included.
 * @template T
 * @param {T[]} list
 * @param {number} count
 */
export const spread = (list, count) =>
  list.length <= count ? list
    : Array.from({ length: count }, (_, n) => list[Math.round((n * (list.length - 1)) / (count - 1))]);

/** @type {Map<string, (name: string) => string>} */
const lent = new Map();

/**
 * Says where the files of a database are that no server has.
 * @param {string} source key of the database
 * @param {(name: string) => string} addresses
 */
export const lend = (source, addresses) => { lent.set(source, addresses); };

/**
 * Files of a database have an address of their own, relative to the page, and never change.
 * @param {string} source key of the database
 * @param {string} name
 */
export const fileOf = (source, name) =>
  lent.get(source)?.(name) ?? `thumbs/${encodeURIComponent(source)}/${name}`;

/**
 * @param {string} source key of the database
 * @param {unknown} item
 */
export const thumb = (source, item) => fileOf(source, `${Number(item)}.webp`);
