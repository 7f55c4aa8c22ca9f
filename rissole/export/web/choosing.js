// The query and its neighbors, and what is searched in: what `rissole/app/choose.py` and `memory.py`
// do for the server's page.
import { E } from "../../app/web/shared/events.js";
import { state, tell } from "../../app/web/shared/store.js";
import { fileOf, fill, lend } from "../../app/web/shared/values.js";
import { addressOf, dataAddress, pixelsOf, squareOf } from "./pictures.js";
import { Refusal } from "./recipe.js";
import { MOST } from "./search.js";
import { mark, randomSeed } from "./session.js";
import { namedClasses } from "./words.js";

/**
 * @typedef {import("./session.js").Query} Query
 * @typedef {import("../../app/web/types").Hit} Hit
 */

const MOST_ADDED = 32; // pictures behind those of a database, one after another
const NAMES = 12; // of classes, where words name none
const QUOTED = 40; // characters of what a visitor wrote

/** @param {string} text */
const quoted = (text) => `'${text.length > QUOTED ? `${text.slice(0, QUOTED - 3)}...` : text}'`;

/** Addresses of pictures that lie in memory; those of a database before them stay as they are.
 * @param {Blob[]} pictures @param {{key: string, count: number} | null} [before] */
const addressed = (pictures, before = null) => {
  const own = pictures.map((picture) => URL.createObjectURL(picture)), first = before?.count ?? 0;
  return (/** @type {string} */ name) => {
    const item = parseInt(name, 10); // of "17.webp"; pictures of one's own have no class
    return before && !(item >= first) ? fileOf(before.key, name) : own[item - first];
  };
};

/** @param {import("./session.js").Page} page @param {import("./session.js").Session} visit */
export const choosingOf = ({ engine, facts, texts, controls, give }, visit) => {
  const shownQuery = () => {
    const { address, painted, text, item } = visit.query;
    if (address) return { image: address, painted: Boolean(painted) };
    if (text !== undefined) return { text };
    return item === undefined ? null : { item };
  };

  /** The query as the engine takes it. @param {Query} query */
  const plain = ({ item, pixels, text }) => ({ item, pixels, text });

  /** @param {object[]} hits @param {Record<string, number[]>} blocks */
  const giveNeighbors = (hits, blocks) =>
    give("neighbors", { query: shownQuery(), hits, blocks, source: visit.source, mine: visit.place.mine });

  const remember = () => {
    const { place, photos, source, label } = visit;
    const { key, label: about, count } = facts.database;
    give("memory", {
      source, chosen: visit.original, count: place.count, about: place.about, fingerprint: source,
      classes: place.classes, label, databases: [{ key, label: about, count }],
      encoders: [facts.encoder], encoder: facts.encoder.name, own: photos && { ...photos }, added: place.added,
      skipped: photos?.skipped.length ?? 0, mark: mark(),
    });
  };

  /**
   * Searches; pinned neighbors and those of single blocks stay.
   * @param {Query} next @param {{off?: number[], anew?: boolean}} [how] ids that come switched off, and
   *   whether what there was before was of another database
   */
  const search = async (next, { off = [], anew = false } = {}) => {
    const { hits: before, blocks } = state().neighbors;
    const pinned = anew ? [] : before.filter((hit) => hit.pin).map(({ id }) => id);
    const { item, hits } = await engine.call("retrieve", { ...plain(next), seed: randomSeed() },
      { source: visit.source, k: controls.read().k, label: visit.label, pinned });
    visit.query = item === undefined ? next : { item };
    const shown = hits.map((/** @type {Hit} */ hit) => ({ ...hit, on: !off.includes(hit.id) }));
    giveNeighbors(shown.some((/** @type {Hit} */ hit) => hit.on) ? shown : hits, anew ? {} : blocks);
  };

  /** No more neighbors than there are pictures beside the query; a slider needs two places. */
  const limit = () => {
    const number = visit.label === null ? -1 : visit.place.classes.indexOf(visit.label);
    const members = number < 0 ? visit.place.count : state().classes?.filter((one) => one === number).length;
    controls.limit(Math.max(2, Math.min(MOST, (members ?? visit.place.count) - 1)));
  };

  /** Comes to another database: nothing of the one before is left. @param {string} source */
  const goTo = (source) => {
    Object.assign(visit, { source, query: {}, kept: [], label: null });
    limit();
    remember();
  };

  /** @param {string} source */
  const move = async (source) => {
    if (!visit.places.has(source)) throw new Refusal(texts.errors.gone);
    goTo(source);
    await search({}, { anew: true });
    give("canvas", { state: "idle", mark: mark() }); // what was painted cannot be repainted from here
  };

  // ---- photos of a visitor's own -----------------------------------------------------------------

  /** @param {import("./engine.js").OwnPhotos} found */
  const own = ({ pictures, ...photos }) => {
    visit.photos = photos;
    visit.places.set(photos.key, { key: photos.key, count: photos.count, about: texts.memory.own, classes: [],
      mine: true, extends: null, added: 0 });
    lend(photos.key, addressed(pictures));
  };

  /** @param {{files: string[], skipped: string[]}} chosen photos that were read, and names of others */
  const photos = async ({ files, skipped }) => {
    if (!files.length) throw new Refusal(texts.errors.noPhotos);
    own(await engine.call("photos", files, skipped));
    await move(/** @type {import("./session.js").Photos} */ (visit.photos).key);
    if (!visit.photos?.kept) give("problem", texts.browser.notKept);
  };

  const forget = async () => {
    const { photos: gone } = visit;
    if (!gone) return;
    visit.photos = null;
    const used = visit.original === gone.key;
    if (used) await move(visit.first);
    else remember();
    await engine.call("forget", gone.key);
  };

  /** Photos of an earlier visit. */
  const known = async () => {
    const found = await engine.call("known").catch(() => null); // whoever loads the model says why it failed
    if (!found || visit.photos) return; // newer ones may have been chosen meanwhile
    own(found);
    remember();
  };

  // ---- queries, and neighbors from elsewhere -----------------------------------------------------

  /** @param {Blob} file @returns {Promise<Query>} */
  const queryOf = async (file) => {
    const { pixels, picture } = await squareOf(file, facts.image_size);
    return { pixels, address: await dataAddress(picture) };
  };

  /** @param {string} text */
  const describe = async (text) => {
    const words = text.trim(), { classes } = visit.place;
    if (!words) throw new Refusal(texts.errors.text);
    if (!namedClasses(words, classes).length) {
      const values = { value: quoted(words), names: classes.slice(0, NAMES).join(", ") };
      throw new Refusal(classes.length ? fill(texts.errors.words, values) : texts.browser.noNames);
    }
    await search({ text: words });
  };

  /** @param {Blob} file */
  const add = async (file) => {
    const { hits, blocks } = state().neighbors, { place } = visit;
    if (hits.length >= MOST) throw new Refusal(fill(texts.neighbors.full, { most: MOST }));
    if (place.added >= MOST_ADDED) throw new Refusal(texts.errors.room);
    const { key, count, hit, picture } = await engine.call("extend", visit.source, file, plain(visit.query));
    lend(key, addressed([picture], { key: place.key, count: place.count }));
    visit.places.set(key, { ...place, key, count, mine: true, extends: place.key, added: place.added + 1 });
    visit.source = key;
    remember();
    giveNeighbors([...hits, { ...hit, on: true, pin: true }], blocks);
  };

  /** A picture that was painted here, as a query. @param {Uint8ClampedArray} rgba @returns {Promise<Query>} */
  const painted = async (rgba) => ({ pixels: pixelsOf(rgba), address: await addressOf(rgba, true), painted: true });

  /** Does something about the query. @param {() => Promise<void>} work @param {string} refused an event */
  const quietly = async (work, refused) => {
    try {
      await work();
    } catch (error) {
      tell(refused);
      give("problem", error instanceof Error ? error.message : String(error));
    }
  };

  /** Settings that show something at once; whether they are set. @param {import("./engine.js").Preset} preset */
  const preset = async ({ order, seed, k }) => {
    let done = false;
    await quietly(async () => {
      const { defaults } = facts;
      const { item } = await engine.call("retrieve", { seed: BigInt(seed) },
        { source: visit.source, k: 1, label: visit.label, pinned: [] });
      controls.write({ order, k: k ?? defaults.k, grid: defaults.grid, steps: defaults.num_inference_steps,
        guidance: defaults.guidance_scale, strength: 1 });
      controls.tell();
      await search({ item });
      done = true;
    }, E.UNMOVED);
    return done;
  };

  let searching = false, later = false;
  /** The same query with another k; only the newest wish counts. */
  const again = async () => {
    later = searching;
    if (searching) return;
    searching = true;
    await quietly(() => search(visit.query, { off: off() }), E.UNMOVED);
    searching = false;
    if (later) await again();
  };

  const off = () => state().neighbors.hits.filter((hit) => !hit.on).map(({ id }) => id);
  return {
    giveNeighbors, goTo, known, painted, plain, quietly, queryOf, remember, search,
    surprise: () => quietly(() => search({}), E.UNMOVED),
    again, preset,
    upload: (/** @type {Blob} */ blob) => quietly(async () => search(await queryOf(blob)), E.UNREAD),
    add: (/** @type {Blob} */ blob) => quietly(() => add(blob), E.UNREAD),
    describe: (/** @type {string} */ text) => quietly(() => describe(text), E.UNMOVED),
    /** @type {Record<string, (detail: any) => Promise<void>>} */
    events: {
      pick: ({ item }) => quietly(() => search({ item }), E.UNMOVED),
      more: ({ run: shown }) => quietly(async () => {
        const picture = visit.kept[visit.placeOf(shown)] ?? visit.kept.at(-1);
        if (!picture) throw new Refusal(texts.errors.back);
        await search(await painted(picture.rgba));
      }, E.UNMOVED),
      sift: ({ label }) => quietly(async () => {
        visit.label = label;
        limit();
        await search({});
        remember();
      }, E.UNMOVED),
      move: ({ key }) => quietly(() => move(key), E.UNMOVED),
      photos: (chosen) => quietly(() => photos(chosen), E.UNMOVED),
      forget: () => quietly(forget, E.UNMOVED),
    },
  };
};
