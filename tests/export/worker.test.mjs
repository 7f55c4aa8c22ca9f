// The engine's thread: what is asked for before the model is there waits for it.

import assert from "node:assert/strict";
import { test } from "node:test";

const NOWHERE = "http://127.0.0.1:1/"; // nobody may serve there

/** Answers to requests, in the order in which they come. @param {object[]} requests */
const answers = async (requests) => {
  const said = [];
  const whole = new Promise((done) => {
    globalThis.postMessage = (message) => {
      said.push(message);
      if (said.length === requests.length) done(said);
    };
  });
  await import("../../rissole/export/web/worker.js");
  for (const request of requests) globalThis.onmessage({ data: request });
  return whole;
};

test("what is asked for before the model hears what becomes of it", async () => {
  const said = await answers([
    { id: 1, verb: "known", args: [] },
    { id: 2, verb: "paint", args: [{}, null, 0, null] },
    { id: 3, verb: "open", args: [NOWHERE, null] },
  ]);
  assert.deepEqual(said.map(({ id }) => id).sort(), [1, 2, 3]);
  for (const { error } of said) assert.match(error, /^facts\.json could not be loaded/);
});
