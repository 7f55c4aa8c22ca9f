// What a visitor has seen being painted, kept in the browser: every message of the last runs.
window.rissole.Film = class {
  constructor(runs = 8, length = 480) {
    Object.assign(this, { most: runs, length, reels: new Map(), finals: new Map(), images: new Map() });
  }

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
      while (map.size >= this.most) map.delete(map.keys().next().value);
    }
    this.images.clear();
  }

  reel(run) { return this.reels.get(run) || []; }

  final(run) { return this.finals.get(run) || null; }

  // Up to `count` places in the reel, evenly spread over the steps that painted block `at`.
  moments(run, at, count) {
    const reel = this.reel(run);
    const busy = reel.map((message, place) => [message, place])
      .filter(([message]) => message.active[at] === "1").map(([, place]) => place);
    if (busy.length <= count) return busy;
    return Array.from({ length: count }, (_, n) => busy[Math.round((n * (busy.length - 1)) / (count - 1))]);
  }

  // Decoded pictures, each decoded once.
  image(address) {
    if (!this.images.has(address)) {
      const image = new Image();
      image.src = address;
      this.images.set(address, image.decode().then(() => image, () => null));
    }
    return this.images.get(address);
  }
};
