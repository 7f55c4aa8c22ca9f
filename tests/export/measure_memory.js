// Drives an exported page in a frame, and says when its process is to be looked at: see
// `measure_memory.py`, whose server has this script.
/* global document, fetch, setTimeout, Event */

const frame = /** @type {HTMLIFrameElement} */ (document.querySelector("iframe"));
const FEW = 4; // steps, guided ones among them: further ones take no more memory
const POLL = 50; // ms

const said = (/** @type {string} */ what) => fetch(`/said?${encodeURIComponent(what)}`);
const page = () => /** @type {Document} */ (frame.contentDocument);

/** Waits until the page has its model. */
const ready = async () => {
  while (!page().querySelector(".rs-hit") || !page().querySelector("#rs-loading[hidden]")) {
    await new Promise((done) => { setTimeout(done, POLL); });
  }
};

const painted = () => new Promise((done) => {
  const heard = (/** @type {any} */ { detail }) => {
    if (detail !== "done" || page().documentElement.dataset.kind) return; // a sketch, or what it opens with
    page().removeEventListener("rissole:phase", heard);
    done(null);
  };
  page().addEventListener("rissole:phase", heard);
  /** @type {HTMLElement} */ (page().querySelector("#rs-generate")).click();
});

await ready();
await said(`${page().documentElement.dataset.adapter}, loaded`);
const steps = /** @type {HTMLInputElement} */ (page().querySelector("#rs-steps-input"));
if (Number(steps.value) > FEW) steps.value = String(FEW);
steps.dispatchEvent(new Event("change", { bubbles: true }));
for (const number of [1, 2]) {
  await painted();
  await said(`picture ${number}`);
}
/** @type {Window} */ (frame.contentWindow).location.reload();
await new Promise((done) => { frame.addEventListener("load", done, { once: true }); });
await ready();
await said("loaded again");
await painted();
await said("picture 3");
await said("");
