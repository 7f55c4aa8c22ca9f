// The stream of answers, between a server that is played here and a library that reads it.
import assert from "node:assert/strict";
import { test } from "node:test";

/** A server: it is told what to accept, and what to say on its newest stream. */
class Server {
  /** @type {Record<string, () => void>} */
  accept = {};

  /** @type {ReadableStreamDefaultController[]} */
  streams = [];

  answer(address, body) {
    if (address.endsWith("queue/data")) {
      return new Response(new ReadableStream({ start: (stream) => { this.streams.push(stream); } }));
    }
    if (!address.endsWith("queue/join")) return Response.json({ success: true });
    return new Promise((done) => {
      this.accept[body.run] = () => done(Response.json({ event_id: body.run }));
    });
  }

  say(...messages) {
    const lines = messages.map(([msg, run = null]) => `data: ${JSON.stringify({ msg, event_id: run })}\n\n`);
    this.streams.at(-1)?.enqueue(new TextEncoder().encode(lines.join("")));
  }
}

const page = /** @type {any} */ (globalThis);
page.window = page;
page.location = { href: "http://here/" };
let server = new Server();
let pages = 0;

/** A page that is loaded anew, with a server of its own. */
const load = async () => {
  server = new Server();
  page.fetch = async (request, { body = "{}" } = {}) => server.answer(request.url ?? request, JSON.parse(body));
  pages += 1;
  (await import(`../../../rissole/app/web/shared/patches.js?${pages}`)).countRequests();
};

/** Some turns of the loop: all that can happen has happened. */
const settled = async () => {
  for (let turn = 0; turn < 30; turn += 1) await new Promise((done) => { setTimeout(done); });
};
const post = (address, body) => fetch(`http://here/${address}`, { method: "POST", body: JSON.stringify(body) });

/** What the library does: it opens a stream for a run if none is open, and hears of the runs that it knows. */
class Library {
  open = false;

  /** @type {string[]} */
  known = [];

  /** @type {string[]} */
  heard = [];

  async begin(run) {
    const { event_id: name } = await (await post("queue/join", { run })).json();
    this.known.push(name);
    if (!this.open) this.listen();
  }

  cancel(run) {
    return post("cancel", { event_id: run });
  }

  async listen() {
    this.open = true;
    const control = new AbortController();
    const answer = await fetch(new Request("http://here/queue/data", { signal: control.signal }));
    const reader = answer.body?.pipeThrough(new TextDecoderStream()).getReader();
    for (let part = await reader?.read(); part && !part.done; part = await reader?.read()) {
      for (const [, line] of part.value.matchAll(/data: (.+)/g)) {
        const { msg, event_id: run } = JSON.parse(line);
        if (msg === "close_stream") {
          this.open = false;
          control.abort();
        } else this.heard.push(`${this.known.includes(run) ? "" : "early "}${msg} ${run}`);
      }
    }
  }
}

/** A page on which a run is under way, and what it knows. */
const begun = async (run) => {
  await load();
  const library = new Library();
  library.begin(run);
  await settled();
  server.accept[run]();
  await settled();
  return library;
};

test("a run that is accepted before the end of a stream is heard gets a stream of its own", async () => {
  const library = await begun("first");
  library.begin("second");
  await settled();
  server.accept.second(); // the server has closed the stream, which is not heard yet
  await settled();
  assert.deepEqual(library.known, ["first"]);
  server.say(["process_completed", "first"], ["close_stream"]);
  await settled();
  assert.deepEqual(library.known, ["first", "second"]);
  assert.equal(server.streams.length, 2);
});

test("a run is known as soon as the stream has spoken of it", async () => {
  const library = await begun("first");
  library.begin("second");
  await settled();
  server.accept.second();
  server.say(["estimation", "second"]);
  await settled();
  assert.deepEqual(library.known, ["first", "second"]);
  assert.equal(server.streams.length, 1);
});

test("a stream waits until the library knows the run that it speaks of", async () => {
  const library = await begun("first");
  library.begin("second");
  await settled();
  server.say(["estimation", "second"], ["process_generating", "second"], ["process_generating", "first"]);
  await settled();
  assert.deepEqual(library.heard, []);
  server.accept.second();
  await settled();
  const all = ["estimation second", "process_generating second", "process_generating first"];
  assert.deepEqual(library.heard, all);
});

test("of a run that is cancelled only the end is heard", async () => {
  const library = await begun("first");
  await library.cancel("first");
  server.say(["process_generating", "first"], ["process_completed", "first"]);
  await settled();
  assert.deepEqual(library.heard, ["process_completed first"]);
});

test("of a run that is cancelled nothing is heard once another is begun", async () => {
  const library = await begun("first");
  await library.cancel("first");
  library.begin("second");
  await settled();
  server.say(["process_generating", "first"], ["process_completed", "first"], ["heartbeat"]);
  await settled();
  assert.deepEqual(library.heard, ["early heartbeat null"]);
});

test("lines that come in pieces are heard whole", async () => {
  const library = await begun("first");
  const text = `data: ${JSON.stringify({ msg: "estimation", event_id: "first", frame: "é".repeat(9) })}\n\n`;
  const bytes = new TextEncoder().encode(text);
  for (let at = 0; at < bytes.length; at += 7) server.streams[0].enqueue(bytes.slice(at, at + 7));
  await settled();
  assert.deepEqual(library.heard, ["estimation first"]);
});

test("of a run that the page did not begin, a stream speaks at once, whatever else is begun", async () => {
  const library = await begun("first");
  library.begin("second");
  await settled();
  server.accept.second();
  await settled();
  server.say(["process_generating", "elsewhere"], ["estimation", "second"]);
  await settled();
  assert.deepEqual(library.heard, ["early process_generating elsewhere", "estimation second"]);
});

test("an answer that is none, and one that never comes, are the library's to tell of", async () => {
  await load();
  server.answer = () => new Response("<html>sign in</html>");
  const answer = await post("queue/join", { run: "a" });
  assert.equal(await answer.text(), "<html>sign in</html>");
  server.answer = () => { throw new TypeError("no line"); };
  await assert.rejects(post("queue/join", { run: "b" }), /no line/);
});
