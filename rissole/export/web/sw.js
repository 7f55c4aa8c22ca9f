// Keeps the exported page in the browser, so that a second visit needs no network. All of it belongs
// to one version: another one gets a cache of its own, filled before it is used, and the old one goes.
const VERSION = "000000000000"; // of the page: the export writes it, so that a new one has a new script
const BASE = self.registration.scope;
const OURS = `rissole ${BASE} `, KEPT = OURS + VERSION; // another page of this server has its own
const THUMBNAILS = "database/thumbnails.safetensors";
const TAKE_OVER = "take over";
const [LOOKS, PAUSE] = [10, 100]; // how often, and ms between two

const fresh = (name) => fetch(new Request(BASE + name, { cache: "no-cache" }));

/** Files that a visit without network needs: those of a runtime that is never asked for come when
 * they are asked for. */
const wanted = ({ files }) => Object.keys(files).filter((name) => !/runtime\/.*(webgpu|asyncify)|^sw\.js/.test(name));

const int64 = (bytes) => Number(new DataView(bytes.buffer, bytes.byteOffset, 8).getBigInt64(0, true));

/** One answer for each thumbnail, out of the one file that holds all of them. */
const unpackThumbnails = async (cache, key) => {
  const answer = await cache.match(BASE + THUMBNAILS);
  const file = await answer.blob(); // which is not in memory
  const read = async (from, to) => new Uint8Array(await file.slice(from, to).arrayBuffer());
  const start = 8 + int64(await read(0, 8));
  const { offsets, data } = JSON.parse(new TextDecoder().decode(await read(8, start)));
  const places = await read(...offsets.data_offsets.map((at) => start + at));
  const offset = (n) => start + data.data_offsets[0] + int64(places.subarray(8 * n));
  for (let item = 0; item + 1 < offsets.shape[0]; item += 1) {
    const webp = file.slice(offset(item), offset(item + 1), "image/webp");
    const headers = { "Content-Type": "image/webp", "Content-Length": String(webp.size) };
    await cache.put(`${BASE}thumbs/${key}/${item}.webp`, new Response(webp, { headers }));
  }
  await cache.delete(BASE + THUMBNAILS);
};

/** Loads all files, or fails: the browser then tries again at another visit, and goes on from there. What the
 * page has loaded it has put here itself (`keep` in `engine.js`). */
const keep = async () => {
  const cache = await caches.open(KEPT), answer = await fresh("facts.json");
  const facts = await answer.clone().json();
  if (facts.version !== VERSION) throw new Error("the page is being replaced");
  for (const name of wanted(facts)) {
    const address = BASE + (name === "index.html" ? "" : name);
    if (await cache.match(address)) continue;
    await cache.put(address, await fresh(name)); // looked at where it lies, not in memory
    const kept = await cache.match(address);
    if (kept.ok && (await kept.blob()).size === facts.files[name]) continue;
    await cache.delete(address);
    throw new Error(`${name} is not of this version`);
  }
  await unpackThumbnails(cache, facts.database.key);
  await cache.put(`${BASE}facts.json`, answer);
};

const forgetOthers = async () => {
  const others = (await caches.keys()).filter((name) => name.startsWith(OURS) && name !== KEPT);
  await Promise.all(others.map((name) => caches.delete(name)));
};

/** A part of a kept file, as a server would send it. */
const partOf = async (answer, range) => {
  const [, start, end] = /bytes=(\d+)-(\d+)/.exec(range) ?? [];
  const whole = await answer.blob(), last = Math.min(Number(end), whole.size - 1);
  const headers = { "Content-Range": `bytes ${start}-${last}/${whole.size}` };
  return new Response(whole.slice(Number(start), last + 1), { status: 206, headers });
};

/** Whether there is one page at most; one that is just being left may be among them for a moment. */
const isAlone = async () => {
  for (let look = 0; look < LOOKS; look += 1) {
    if ((await self.clients.matchAll()).length < 2) return true;
    await new Promise((done) => { setTimeout(done, PAUSE); });
  }
  return false;
};

/** A new version that is whole waits until no page is left of the old one, or this one is loaded anew. */
const isReplaced = async ({ mode }) => mode === "navigate" && self.registration.waiting && isAlone();

const answerTo = async (request) => {
  if (await isReplaced(request)) {
    self.registration.waiting.postMessage(TAKE_OVER);
    return new Response("", { headers: { Refresh: "0" } });
  }
  const address = request.url.split(/[?#]/)[0].replace(/index\.html$/, "");
  const kept = await (await caches.open(KEPT)).match(address);
  if (!kept) return fetch(request);
  const range = request.headers.get("Range");
  return range ? partOf(kept, range) : kept;
};

self.addEventListener("install", (event) => event.waitUntil(keep()));
self.addEventListener("activate", (event) => event.waitUntil(forgetOthers().then(() => self.clients.claim())));
self.addEventListener("message", ({ data }) => { if (data === TAKE_OVER) self.skipWaiting(); });
self.addEventListener("fetch", (event) => {
  if (event.request.method === "GET" && event.request.url.startsWith(BASE)) event.respondWith(answerTo(event.request));
});
