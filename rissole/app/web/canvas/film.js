// What a visitor has seen being painted, kept in the browser: every message of the last runs.
import { spread } from "../shared/values.js";

/** @typedef {import("../types").Message} Message */

export class Film {
  constructor(runs = 8, length = 480) {
    this.most = runs;
    this.length = length;
    /** @type {Map<string, Message[]>} */
    this.reels = new Map();
    /** @type {Map<string, string>} */
    this.finals = new Map();
    /** @type {Map<string, Promise<HTMLImageElement | null>>} */
    this.images = new Map();
  }

  /** @param {Message} message */
  record(message) {
    const reel = this.reels.get(message.run) || [];
    if (!reel.length) this.forget();
    // the last message of a run comes twice when a picture is shown again
    if (message.state === "done" && reel.at(-1)?.state === "done") return;
    if (reel.length < this.length || message.state === "done") reel.push(message);
    this.reels.set(message.run, reel);
    // a picture that is put back with all it was painted upon goes on where another would be done
    if (message.link) this.finals.set(message.run, message.frame);
  }

  forget() {
    for (const map of [this.reels, this.finals]) {
      while (map.size >= this.most) map.delete([...map.keys()][0]);
    }
    this.images.clear();
  }

  /** @param {string | undefined} run */
  reel(run) { return this.reels.get(run ?? "") || []; }

  /** @param {string | null | undefined} run */
  final(run) { return this.finals.get(run ?? "") || null; }

  /**
   * Up to `count` places in the reel, evenly spread over the steps that painted block `at`.
   * @param {string} run
   * @param {number} at
   * @param {number} count
   */
  moments(run, at, count) {
    const reel = this.reel(run);
    const busy = reel.flatMap((message, place) => (message.active[at] === "1" ? [place] : []));
    return spread(busy, count);
  }

  /**
   * Decoded pictures, each decoded once.
   * @param {string} address
   * @returns {Promise<HTMLImageElement | null>}
   */
  image(address) {
    const known = this.images.get(address);
    if (known) return known;
    const image = new Image();
    image.src = address;
    const found = image.decode().then(() => image, () => null);
    this.images.set(address, found);
    return found;
  }
}
