// The page's side of the engine's thread: nobody waits for a thread that has ended.

import assert from "node:assert/strict";
import { test } from "node:test";

import { remote } from "../../rissole/export/web/remote.js";

/** A thread whose messages are kept; it says what it is told to say. */
const thread = () => {
  const asked = [];
  let over = false;
  return { asked, postMessage: (message) => asked.push(message), terminate: () => { over = true; }, ended: () => over };
};
const event = (message) => ({ message, preventDefault: () => {} });

test("answers find who asked, and progress is told on the way", async () => {
  const worker = thread(), engine = remote(worker), told = [];
  const opened = engine.open("here/", null, (...progress) => told.push(progress)), near = engine.call("near", 7);
  assert.deepEqual(worker.asked.map(({ verb, args }) => [verb, args]), [["open", ["here/", null]], ["near", [7]]]);
  worker.onmessage({ data: { id: 2, value: "found" } });
  worker.onmessage({ data: { id: 1, progress: [1, 2] } });
  worker.onmessage({ data: { id: 1, error: "no network" } });
  assert.equal(await near, "found");
  await assert.rejects(opened, /^Error: no network$/);
  assert.deepEqual(told, [[1, 2]]);
});

test("a picture that was stopped is asked to stop, and later steps of it are not shown", async () => {
  const worker = thread(), shown = [];
  const { whole, stop } = remote(worker).paint({}, null, "", 0, (step) => shown.push(step));
  worker.onmessage({ data: { id: 1, step: 1 } });
  stop();
  worker.onmessage({ data: { id: 1, value: false } });
  worker.onmessage({ data: { id: 1, step: 2 } });
  assert.equal(await whole, false);
  assert.deepEqual([worker.asked.at(-1), shown], [{ id: 1, stop: true }, [1]]);
});

for (const [how, reason, end] of [
  ["never came", /its script could not be loaded/, (worker) => worker.onerror(event(""))],
  ["failed by itself", /ended \(no memory\): load the page again/, (worker) => worker.onerror(event("no memory"))],
  ["says what cannot be read", /an answer could not be read/, (worker) => worker.onmessageerror()],
]) {
  test(`a thread that ${how} refuses what waits and what comes later`, async () => {
    const worker = thread(), engine = remote(worker), waiting = engine.call("known");
    end(worker);
    await assert.rejects(waiting, reason);
    await assert.rejects(engine.call("retrieve"), reason);
    await assert.rejects(engine.paint({}, null, "", 0, () => {}).whole, reason);
    assert.ok(worker.ended());
    assert.equal(worker.asked.length, 1);
  });
}
