// Who was listened to, and where seams show.
import assert from "node:assert/strict";
import { test } from "node:test";

import { attention, borders, color, ink, seamRatio } from "../../../rissole/app/web/canvas/maps.js";
import { bytes, message } from "./messages.mjs";

test("shares of a block add up, and who was not seen is left out", () => {
  const heard = attention(message({ attention: bytes(30, 0, 10, 5, 10, 20, 30, 5) }));
  assert.deepEqual(heard.shares(0, 0), [{ n: 0, id: 3, share: 0.75 }, { n: 1, id: 5, share: 0.25 }]);
  assert.deepEqual(heard.shares(0, 1), [{ n: 1, id: 5, share: 1 }]);
  assert.equal(heard.winner(1, 0)?.id, 5);
  assert.equal(heard.winner(1, 1)?.id, 3); // the first of equals
});

test("a block that is not painted was listened to by nobody", () => {
  const heard = attention(message({ attention: bytes(0, 0, 0, 0, 0, 0, 0, 0) }));
  assert.deepEqual(heard.shares(0, 0), []);
  assert.equal(heard.winner(0, 0), null);
  assert.deepEqual(heard.cellWinners()[0], [-1, 0]);
  assert.deepEqual(heard.cellShares(0), [0, 0, 0, 0]);
});

test("a block's share is the mean over its cells", () => {
  const one = Array(16).fill(20);
  one.splice(0, 2, 60, 60); // two of the four cells of the first block
  const heard = attention(message({ cells: 4, attention: bytes(...one, ...Array(16).fill(20)) }));
  assert.deepEqual(heard.shares(0, 0).map(({ share }) => share), [160 / 240, 80 / 240]);
  assert.deepEqual(heard.cellWinners()[0], [0, 0.75]);
  assert.equal(heard.cellShares(1)[0], 0.25);
});

test("every neighbor has a color, and its number can be read on it", () => {
  assert.equal(new Set(Array.from({ length: 16 }, (_, n) => color(n))).size, 16);
  assert.equal(color(16), color(0));
  for (let n = 0; n < 16; n += 1) assert.match(ink(n), /^#(1b1410|ffffff)$/);
});

/** A gray picture, `level(x, y)` at each pixel. */
const picture = (size, level) => {
  const data = new Uint8ClampedArray(4 * size * size);
  for (let at = 0; at < size * size; at += 1) {
    data.fill(level(at % size, Math.floor(at / size)), 4 * at, 4 * at + 3);
  }
  return { data, width: size, height: size };
};

test("a picture without borders has a seam ratio of 1, one of tiles a large one", () => {
  const slope = picture(32, (x, y) => 2 * x + 3 * y);
  assert.equal(seamRatio(borders(slope, 4)), 1);
  const tiles = picture(32, (x, y) => x + y + 40 * ((Math.floor(x / 16) + Math.floor(y / 16)) % 2));
  assert.ok(seamRatio(borders(tiles, 2)) > 30);
  assert.deepEqual(borders(slope, 1), []);
});

test("borders lie where blocks meet", () => {
  const found = borders(picture(32, () => 0), 4);
  assert.deepEqual(found.map(({ across, border }) => [across, border]),
    [true, false].flatMap((across) => [7, 15, 23].map((border) => [across, border])));
  assert.equal(found[0].lines.length, 32);
});
