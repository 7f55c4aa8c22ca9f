// The bundle's files as a page reads them, from a server that knows ranges and from one that does not.

import assert from "node:assert/strict";
import { createServer } from "node:http";
import { test } from "node:test";

import { bytesOf, fromHalf, numbersOf, Parts, readIndex, Rows } from "../../rissole/export/web/files.js";

const HEADER = JSON.stringify({
  __metadata__: { format: "pt" }, latents: { dtype: "F16", shape: [3, 1, 2], data_offsets: [0, 12] },
});
const NUMBERS = [0x3c00, 0xbc00, 0x0000, 0x4248, 0x7bff, 0x0001]; // 1, -1, 0, 3.140625, 65504, 2^-24

const tensors = () => {
  const head = new TextEncoder().encode(HEADER), bytes = new Uint8Array(8 + head.length + 2 * NUMBERS.length);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(head.length), true);
  bytes.set(head, 8);
  bytes.set(new Uint8Array(Uint16Array.from(NUMBERS).buffer), 8 + head.length);
  return bytes;
};

/** Runs a test on a server with one file; `asked` are the ranges that it was asked for. */
const serving = async (ranges, work) => {
  const file = tensors(), asked = [];
  const server = createServer((request, answer) => {
    const [, start, end] = /bytes=(\d+)-(\d+)/.exec(request.headers.range ?? "") ?? [];
    asked.push(request.headers.range);
    if (request.url !== "/latents") answer.writeHead(404).end();
    else if (ranges && end) answer.writeHead(206).end(file.subarray(Number(start), Number(end) + 1));
    else answer.writeHead(200).end(file);
  });
  await new Promise((ready) => { server.listen(0, "127.0.0.1", ready); });
  try {
    await work(`http://127.0.0.1:${server.address().port}/`, asked);
  } finally {
    server.closeAllConnections();
    await new Promise((closed) => { server.close(closed); });
  }
};

test("half precision is read as it is", () => {
  const bytes = new Uint8Array(Uint16Array.from(NUMBERS).buffer);
  assert.deepEqual([...fromHalf(bytes)], [1, -1, 0, 3.140625, 65504, 2 ** -24]);
});

test("all numbers of a file are those behind its header", async () => {
  assert.deepEqual([...await numbersOf(new Blob([tensors()]))], [1, -1, 0, 3.140625, 65504, 2 ** -24]);
});

test("a file of many pieces is read whole", async () => {
  const many = Uint16Array.from({ length: 1_200_001 }, (_, n) => NUMBERS[n % 5]), head = new BigUint64Array(1);
  const file = new Blob([head, many]), numbers = await numbersOf(file);
  assert.equal(numbers.length, many.length);
  assert.deepEqual([numbers.at(-1), numbers[600_000]], [1, 1]);
  assert.deepEqual((await bytesOf(file)).subarray(8), new Uint8Array(many.buffer));
});

test("rows come by ranges, one request each", () => serving(true, async (base, asked) => {
  const rows = await Rows.open(`${base}latents`);
  assert.deepEqual([...await rows.take([2, 0])], [65504, 2 ** -24, 1, -1]);
  assert.equal(asked.length, 4);
}));

test("a server without ranges is asked once", () => serving(false, async (base, asked) => {
  const rows = await Rows.open(`${base}latents`);
  assert.deepEqual([...await rows.take([1])], [0, 3.140625]);
  assert.equal(asked.length, 1);
}));

test("what is missing is named", () => serving(true, async (base) => {
  await assert.rejects(new Parts(`${base}thumbs/classes.bin`).read(0, 2), /^Error: classes.bin could not be loaded/);
}));

test("an index of another kind is refused", () => {
  const file = new ArrayBuffer(64);
  new Uint8Array(file).set(new TextEncoder().encode("IwSq"));
  assert.throws(() => readIndex(file), /another kind/);
});
