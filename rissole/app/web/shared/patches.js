// Everything that reaches into parts of Gradio that it does not promise to keep. Each says what it
// works around; tests/app/test_patches.py fails when Gradio no longer needs it.

// ---- which requests are under way ----------------------------------------------------------------

// Gradio cancels only what its server has accepted, and until a cancelled run is over it passes
// over the next one; it tells nobody when either is. So its requests are counted here.
export const BEGIN = "queue/join";
const END = ["/cancel", "/reset"];
/** @type {Record<string, number>} */
const underWay = { [BEGIN]: 0, [END[0]]: 0, [END[1]]: 0 };
/** @type {((begins: boolean) => void)[]} */
const listeners = [];
let visit = ""; // the name under which Gradio speaks for this page

/** Whether there is a server that is asked: the page alone has its engine in the browser. */
export const isServed = () => visit !== "";
export const beginning = () => underWay[BEGIN] > 0;
export const cancelling = () => END.some((name) => underWay[name] > 0) || Date.now() - lastEnd < TOLD;
let cancelled = 0; // when it was last answered that a run is cancelled
export const sinceCancelled = () => Date.now() - cancelled;

/**
 * Says when a run is begun (true) or cancelled (false) at the server.
 * @param {(begins: boolean) => void} listener
 */
export const onRequest = (listener) => { listeners.push(listener); };

export const countRequests = () => {
  const send = window.fetch;
  window.fetch = async (...request) => {
    const address = request[0] instanceof Request ? request[0].url : String(request[0]);
    const { pathname } = new URL(address, location.href);
    if (pathname.endsWith(STREAM)) return listened(send, request);
    const kind = Object.keys(underWay).find((name) => pathname.endsWith(name));
    if (!kind || typeof request[1]?.body !== "string") return send(...request);
    const { event_id: run, session_hash: name } = JSON.parse(request[1].body);
    underWay[kind] += 1;
    for (const listener of listeners) listener(kind === BEGIN);
    if (kind === BEGIN) {
      visit = name;
      joined += 1;
    } else dead.set(run, joined);
    try {
      return await (kind === BEGIN ? accepted(send(...request)) : send(...request));
    } finally {
      if (kind !== BEGIN) cancelled = Date.now();
      setTimeout(() => { underWay[kind] -= 1; });
    }
  };
};

// ---- the stream on which answers come ------------------------------------------------------------

// The server closes it when nothing is under way, and Gradio opens another for the next run once it
// has heard of that. A run that is accepted in between would be answered on no stream at all. So it
// learns that a run is accepted when the stream has spoken of the run, as it does at once, or ended.
//
// What it says of a run that Gradio does not know yet is kept there, and told all at once later; but
// each answer is a change to the one before, made in place, so that of the first ones nothing is left.
// So the stream waits until the run is known.
//
// What the stream still says of a run that is cancelled, Gradio takes for the one that is begun
// next: its last pictures for new ones, its end for a failure. So that is left out. The end, too, by
// which Gradio forgets a run, but only once another was sent.
const STREAM = "queue/data";
const LAST = 1000; // ms in which a stream that has ended is read to its last word
const TOLD = 200; // ms in which the library has told everybody of the end of a run
const UNKNOWN = 3000; // ms after which nothing waits for a run to be known
const SILENT = 10_000; // ms after which a stream that says nothing is not waited for any more

/**
 * The newest stream: the runs that it has spoken of, and whether it has ended.
 * @type {{runs: Set<string>, ended: boolean}}
 */
let stream = { runs: new Set(), ended: true };
let joined = 0; // requests that begin something, so far
/** @type {Map<string, number>} */
const dead = new Map(); // the runs that are cancelled, and how many of those were sent before
let lastEnd = 0; // when the end of one was passed on
/** @type {Set<() => void>} */
const waiting = new Set();
const tellWaiting = () => { for (const look of waiting) look(); };

/** @type {Set<string>} */
const met = new Set(); // the runs that the library knows
/** @type {Set<string>} */
const named = new Set(); // those that it will know when it has read the answer
let unanswered = 0; // requests whose answer may name others

/**
 * Waits until something is so, or so long.
 * @param {() => boolean} condition
 * @param {number} patience ms
 */
const until = (condition, patience) => new Promise((/** @type {(is: void) => void} */ done) => {
  const end = () => {
    clearTimeout(timer);
    waiting.delete(look);
    done();
  };
  const look = () => { if (condition()) end(); };
  const timer = setTimeout(end, patience);
  waiting.add(look);
  look();
});

/**
 * The answer to a request that begins a run, for the library, when the stream has spoken of it.
 * @param {Promise<Response>} asked
 */
const accepted = async (asked) => {
  unanswered += 1;
  // what is wrong with an answer is for the library to say
  const said = await asked.then((answer) => (answer.ok ? answer.clone().json() : null)).catch(() => null);
  const run = said?.event_id;
  if (run) named.add(run);
  unanswered -= 1;
  tellWaiting();
  const answer = await asked;
  if (!run) return answer;
  await until(() => stream.ended || stream.runs.has(run), SILENT);
  answer.json = async () => { // in whose turn of the loop it is known
    setTimeout(() => {
      met.add(run);
      named.delete(run);
      tellWaiting();
    });
    return said;
  };
  return answer;
};

/**
 * Waits until the library knows a run, if it will.
 * @param {string} run
 */
const toBeKnown = async (run) => {
  if (!met.has(run)) await until(() => met.has(run) || !(unanswered > 0 || named.has(run)), UNKNOWN);
  met.add(run);
};

/**
 * Passes on what a stream says, line by line.
 * @param {Set<string>} runs that it speaks of
 * @returns {TransformStream<string, Uint8Array<ArrayBuffer>>}
 */
const listening = (runs) => {
  const encoder = new TextEncoder();
  let rest = ""; // a line that is not complete yet
  /** @param {string} line */
  const isWanted = async (line) => {
    const run = line.match(/"event_id":"([^"]+)"/)?.[1];
    if (!run) return true;
    runs.add(run);
    tellWaiting();
    await toBeKnown(run);
    if (!dead.has(run)) return true;
    if (dead.get(run) !== joined || !line.includes('"msg":"process_completed"')) return false;
    lastEnd = Date.now();
    return true;
  };
  return new TransformStream({
    transform: async (text, out) => {
      const lines = (rest + text).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) if (await isWanted(line)) out.enqueue(encoder.encode(`${line}\n`));
    },
  });
};

/** @type {(send: typeof fetch, request: Parameters<typeof fetch>) => Promise<Response>} */
const listened = async (send, request) => {
  /** @type {typeof stream} */
  const mine = { runs: new Set(), ended: false };
  stream = mine;
  const end = () => { mine.ended = true; tellWaiting(); };
  // what the library does when it hears that the stream is closed
  if (request[0] instanceof Request) request[0].signal.addEventListener("abort", end);
  try {
    const answer = await send(...request);
    if (!answer.body) {
      end();
      return answer;
    }
    const { readable, writable } = listening(mine.runs);
    const read = answer.body.pipeThrough(new TextDecoderStream()).pipeTo(writable);
    read.catch(() => {}).finally(() => setTimeout(end, LAST));
    return new Response(readable, answer);
  } catch (error) {
    end();
    throw error;
  }
};

// ---- the end of a visit --------------------------------------------------------------------------

/**
 * A page that is closed, not only put aside, says so: a broken line alone would look the same to
 * the server. Gradio tells nobody under which name it speaks for this page.
 */
export const sayGoodbye = () => window.addEventListener("pagehide", ({ persisted }) => {
  if (visit && !persisted) navigator.sendBeacon(`left/${visit}`);
});

// ---- the input of an upload button ---------------------------------------------------------------

/**
 * Gradio's upload button says nothing before the server has the file, and takes none that was
 * dropped elsewhere: both need the input that it hides beside the button.
 * @param {string} id of the button
 */
export const fileInput = (id) => {
  const input = document.getElementById(id)?.parentElement?.querySelector("input[type=file]");
  return /** @type {HTMLInputElement | null} */ (input ?? null);
};

/**
 * Gives an upload button a file that was not chosen with it.
 * @param {string} id of the button
 * @param {File} file
 */
export const giveFile = (id, file) => {
  const input = fileInput(id);
  if (!input) return;
  const files = new DataTransfer();
  files.items.add(file);
  input.files = files.files;
  input.dispatchEvent(new Event("change", { bubbles: true }));
};

/**
 * A hint for the file dialog of phones. In Python it would also be a rule, by the name of the file;
 * the server looks at what is in it.
 * @param {string} id of the button
 */
export const hintPictures = (id) => fileInput(id)?.setAttribute("accept", "image/*");

// ---- addresses of the server ---------------------------------------------------------------------

/**
 * Saves a file that the server wrote for this page under its own name; Gradio offers that only for
 * its own components.
 * @param {unknown} path or, where the page makes the file itself, what saves it
 */
export const saveFile = (path) => {
  if (typeof path === "function") path();
  if (typeof path !== "string") return;
  const link = document.createElement("a");
  link.href = `gradio_api/file=${encodeURI(path)}`;
  link.download = path.split(/[\\/]/).pop() ?? "";
  link.click();
};

// ---- errors of Gradio itself ---------------------------------------------------------------------

/**
 * Gradio titles its own errors "Error", whatever the page's are called, and says nowhere else that a
 * file could not be sent.
 * @param {string} title
 * @param {() => void} heard
 */
export const onError = (title, heard) => {
  const known = new WeakSet(); // lines that were seen: all that are on show share one title
  const look = () => {
    for (const node of document.querySelectorAll(".toast-title")) {
      if (node.textContent?.trim() === "Error") node.textContent = title;
    }
    for (const node of document.querySelectorAll(".toast-body.error [data-testid=toast-text]")) {
      if (known.has(node)) continue;
      known.add(node);
      const [status] = node.textContent?.trim().match(/^HTTP \d+: ?/) ?? [];
      if (status) node.textContent = node.textContent?.trim().slice(status.length) ?? "";
      heard();
    }
  };
  new MutationObserver(look).observe(document.body, { childList: true, subtree: true });
};
