// What a visit in this tab remembers, and what all of its parts are given.

/**
 * @typedef {{
 *   item?: number, pixels?: Float32Array, text?: string, address?: string, painted?: boolean,
 * }} Query
 * @typedef {import("./frames.js").Picture & {query: Query,
 *   neighbors: import("../../app/web/types").Neighbors}} Painted
 * @typedef {{key: string, count: number, about: string, classes: string[], mine: boolean,
 *   extends: string | null, added: number}} Place a database: `extends` names the one that the last of
 *   its `added` pictures was added to
 * @typedef {{key: string, count: number, skipped: string[], kept: boolean}} Photos
 * @typedef {{k: number, order: string, grid: number, steps: number, guidance: number,
 *   strength: number, seed: string}} Settings
 * @typedef {{
 *   engine: ReturnType<typeof import("./remote.js").remote>,
 *   facts: import("./engine.js").Facts,
 *   texts: Record<string, any>,
 *   controls: {read: () => Settings, write: (changes: Record<string, unknown>) => void,
 *     limit: (most: number) => void, tell: () => void},
 *   give: (name: string, value: unknown) => void,
 * }} Page `give` sets the value of a component
 */

/** A word that nobody else has used; `crypto.randomUUID` is for pages with a certificate alone. */
export const mark = () =>
  [...crypto.getRandomValues(new Uint32Array(2))].map((one) => one.toString(16).padStart(8, "0")).join("");

export const randomSeed = () => BigInt(crypto.getRandomValues(new Uint32Array(1))[0]);

/** Work that a visitor gave up: nobody needs to hear of it. */
export class GivenUp extends Error {}

/** Pictures that are painted for one purpose, one after another. */
export class Job {
  /** @param {Page["engine"]} engine */
  constructor(engine) {
    this.engine = engine;
    this.over = false;
    /** @type {{whole: Promise<boolean>, stop: () => void} | null} */
    this.current = null;
  }

  /** Ends it, also between two pictures. */
  stop() {
    this.over = true;
    this.current?.stop();
  }

  /**
   * Paints a recipe.
   * @param {import("./recipe.js").Recipe} recipe @param {Float32Array | null} init
   * @param {string} source of its neighbors @param {number[]} decoded numbers of steps
   * @param {(step: import("./remote.js").Shown) => void} [seen]
   * @returns {Promise<import("./remote.js").Shown[]>} all of its steps
   * @throws {GivenUp}
   */
  async paint(recipe, init, source, decoded, seen = () => {}) {
    if (this.over) throw new GivenUp();
    /** @type {import("./remote.js").Shown[]} */
    const steps = [];
    this.current = this.engine.paint(recipe, init, source, decoded, (step) => {
      steps.push(step);
      seen(step);
    });
    if (!(await this.current.whole)) throw new GivenUp();
    return steps;
  }
}

export class Session {
  /** @param {import("./engine.js").Facts} facts */
  constructor({ database: { key, label, count, classes }, opening }) {
    this.first = key;
    /** Key of the database in use. */
    this.source = key;
    /** @type {Map<string, Place>} */
    this.places = new Map([[key, { key, count, about: label, classes, mine: false, extends: null, added: 0 }]]);
    /** The visitor's own photos, in use or not. @type {Photos | null} */
    this.photos = null;
    /** The class that is searched alone. @type {string | null} */
    this.label = null;
    /** @type {Query} */
    this.query = opening ? { item: opening.item } : {};
    /** Pictures to go back to, the oldest first. @type {Painted[]} */
    this.kept = [];
  }

  /** @returns {Place} */
  get place() {
    return /** @type {Place} */ (this.places.get(this.source));
  }

  /** Place of the picture on show among those kept. @param {string | null | undefined} shown */
  placeOf(shown) {
    const at = this.kept.findIndex(({ message }) => message.run === shown);
    return at < 0 ? this.kept.length : at;
  }

  /** Of the database that was chosen, before pictures were added to it. */
  get original() {
    let { place } = this;
    while (place.extends) place = /** @type {Place} */ (this.places.get(place.extends));
    return place.key;
  }
}
