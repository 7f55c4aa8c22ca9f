// Keeps the exported page in the browser, so that a second visit needs no network. All of it belongs
// to one version: another one gets a cache of its own, and the old one goes.
const BASE = self.registration.scope;
const OFF = "rissole-";

const factsOf = async () => (await fetch(`${BASE}facts.json`, { cache: "no-cache" })).json();

/** Files that a visit without network needs: those of a runtime that is never asked for come when
 * they are asked for. */
const wanted = ({ files }) =>
  Object.keys(files).filter((name) => !/runtime\/.*(webgpu|asyncify)|manifest\.json/.test(name));

const int64 = (bytes) => Number(new DataView(bytes.buffer, bytes.byteOffset, 8).getBigInt64(0, true));

/** One answer for each thumbnail, out of the one file that holds all of them. */
const unpackThumbnails = async (cache, key) => {
  const answer = await cache.match(`${BASE}database/thumbnails.safetensors`);
  const bytes = new Uint8Array(await answer.arrayBuffer()), start = 8 + int64(bytes.subarray(0, 8));
  const { offsets, data } = JSON.parse(new TextDecoder().decode(bytes.subarray(8, start)));
  const offset = (n) => int64(bytes.subarray(start + offsets.data_offsets[0] + 8 * n));
  const base = start + data.data_offsets[0];
  for (let item = 0; item + 1 < offsets.shape[0]; item += 1) {
    const webp = bytes.slice(base + offset(item), base + offset(item + 1));
    const headers = { "Content-Type": "image/webp", "Content-Length": String(webp.length) };
    await cache.put(`${BASE}thumbs/${key}/${item}.webp`, new Response(webp, { headers }));
  }
};

const keep = async () => {
  const facts = await factsOf(), cache = await caches.open(OFF + facts.version);
  for (const name of wanted(facts)) {
    const address = name === "index.html" ? BASE : BASE + name;
    if (!(await cache.match(address))) await cache.add(new Request(address, { cache: "no-cache" }));
  }
  await cache.add(new Request(`${BASE}facts.json`, { cache: "no-cache" }));
  await unpackThumbnails(cache, facts.database.key);
  for (const name of await caches.keys()) {
    if (name.startsWith(OFF) && name !== OFF + facts.version) await caches.delete(name);
  }
};

/** A part of a kept file, as a server would send it. */
const partOf = async (answer, range) => {
  const [, start, end] = /bytes=(\d+)-(\d+)/.exec(range) ?? [];
  const whole = await answer.arrayBuffer(), last = Math.min(Number(end), whole.byteLength - 1);
  const headers = { "Content-Range": `bytes ${start}-${last}/${whole.byteLength}` };
  return new Response(whole.slice(Number(start), last + 1), { status: 206, headers });
};

const answerTo = async (request) => {
  const address = request.url.split(/[?#]/)[0].replace(/index\.html$/, "");
  const kept = await caches.match(address);
  if (!kept) return fetch(request);
  const range = request.headers.get("Range");
  return range ? partOf(kept, range) : kept;
};

self.addEventListener("install", (event) => event.waitUntil(keep().then(() => self.skipWaiting())));
self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));
self.addEventListener("fetch", (event) => {
  if (event.request.method === "GET" && event.request.url.startsWith(BASE)) event.respondWith(answerTo(event.request));
});
