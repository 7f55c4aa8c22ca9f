// Who was listened to, and where seams show.
import assert from "node:assert/strict";
import { test } from "node:test";

import { attention, borders, color, ink, seamRatio, strength } from "../../../rissole/app/web/canvas/maps.js";
import { bytes, message } from "./messages.mjs";

test("shares of a block add up, and who was not seen is left out", () => {
  const heard = attention(message({ attention: bytes(30, 0, 10, 5, 10, 20, 30, 5) }));
  assert.deepEqual(heard.shares(0, 0), [{ n: 0, id: 3, share: 0.75 }, { n: 1, id: 5, share: 0.25 }]);
  assert.deepEqual(heard.shares(0, 1), [{ n: 1, id: 5, share: 1 }]);
  assert.equal(heard.cellWinner(2).n, 1);
  assert.equal(heard.cellWinner(3).n, 0); // the first of equals
});

test("a block that is not painted was listened to by nobody", () => {
  const heard = attention(message({ attention: bytes(0, 0, 0, 0, 0, 0, 0, 0) }));
  assert.deepEqual(heard.shares(0, 0), []);
  assert.equal(heard.any, false);
  assert.deepEqual(heard.cellWinner(0), { n: -1, share: 0, seen: 0 });
  assert.deepEqual(heard.cellShare(0, 0), { share: 0, seen: 0 });
});

test("a block's share is the mean over its cells", () => {
  const one = Array(16).fill(20);
  one.splice(0, 2, 60, 60); // two of the four cells of the first block
  const heard = attention(message({ cells: 4, attention: bytes(...one, ...Array(16).fill(20)) }));
  assert.deepEqual(heard.shares(0, 0).map(({ share }) => share), [160 / 240, 80 / 240]);
  assert.deepEqual(heard.cellWinner(0), { n: 0, share: 0.75, seen: 2 });
  assert.equal(heard.cellShare(0, 1).share, 0.25);
});

test("numbers lie on the color that they name, those of small patches are left out", () => {
  const [a, b] = [Array(16).fill(10), Array(16).fill(20)];
  a[0] = 200; // one cell of the left block's four is won far ahead, three by little
  const heard = attention(message({ grid: 2, cells: 4, attention: bytes(...a, ...b) }));
  const winner = ({ x, y }) => heard.cellWinner(4 * Math.floor(2 * y) + Math.floor(2 * x)).n;
  const marks = heard.regions(0, 0);
  assert.deepEqual(marks.map(({ n }) => n), [1, 0]); // the larger patch first
  assert.deepEqual(marks.map(winner), [1, 0]);
  const one = [200, ...Array(63).fill(10)];
  const large = attention(message({ grid: 1, cells: 8, attention: bytes(...one, ...Array(64).fill(20)) }));
  assert.deepEqual(large.regions(0, 0).map(({ n }) => n), [1]);
});

test("a share is drawn as strong in every picture", () => {
  assert.deepEqual([strength(0, 8), strength(1 / 8, 8), strength(1 / 4, 8), strength(0.9, 8)], [0, 0.5, 1, 1]);
  assert.deepEqual([strength(1, 1), strength(0.5, 2), strength(1, 2)], [1, 0.5, 1]);
});

test("the shares of the whole picture name everyone that some block has seen", () => {
  const heard = attention(message({ ids: [3, 5, 9], attention: bytes(9, 0, 9, 9, 0, 9, 0, 0, 0, 0, 0, 0) }));
  assert.deepEqual(heard.overall(), [{ n: 0, id: 3, share: 0.75 }, { n: 1, id: 5, share: 0.25 }]);
  assert.equal(heard.any, true);
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
