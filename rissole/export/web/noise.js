// Random numbers that depend on a seed and a position alone: Philox 4x32-10, as in `rissole/noise.py`.

const MULTIPLIERS = [0xd2511f53, 0xcd9e8d57], KEY_STEPS = [0x9e3779b9, 0xbb67ae85], ROUNDS = 10;
const WORD = 0xffffffffn;

export const CANVAS = 0n, ITEM = 1n; // streams

/** Upper 32 bits of the product of two words; its lower ones are `Math.imul`'s.
 * @param {number} a @param {number} b */
const upper = (a, b) => {
  const [al, ah, bl, bh] = [a & 0xffff, a >>> 16, b & 0xffff, b >>> 16];
  const middle = al * bh + ((al * bl) >>> 16), carried = ah * bl + (middle % 65536);
  return ah * bh + Math.floor(middle / 65536) + Math.floor(carried / 65536);
};

/** Lower and upper word. @param {bigint} number of 64 bits @returns {[number, number]} */
const halves = (number) => [Number(number & WORD), Number((number >> 32n) & WORD)];

/** The four words of one value of the counter.
 * @param {bigint} seed 0 to 2^64 - 1 @param {bigint} counter @param {bigint} [stream] */
export const words = (seed, counter, stream = CANVAS) => {
  let [a, b] = halves(counter), [c, d] = halves(stream), [left, right] = halves(seed);
  for (let round = 0; round < ROUNDS; round++) {
    [a, b, c, d] = [
      (upper(c, MULTIPLIERS[1]) ^ b ^ left) >>> 0, Math.imul(c, MULTIPLIERS[1]) >>> 0,
      (upper(a, MULTIPLIERS[0]) ^ d ^ right) >>> 0, Math.imul(a, MULTIPLIERS[0]) >>> 0,
    ];
    left = (left + KEY_STEPS[0]) >>> 0;
    right = (right + KEY_STEPS[1]) >>> 0;
  }
  return [a, b, c, d];
};

/** Standard normal numbers of a seed, `count` of them from `start` on: Box and Muller's way.
 * @param {bigint} seed @param {number} count @param {number} [start] */
export const normal = (seed, count, start = 0) => {
  const numbers = new Float32Array(count);
  for (let n = start - (start % 4); n < start + count; n += 4) {
    const uniform = words(seed, BigInt(n / 4)).map((word) => (word + 0.5) / 2 ** 32);
    for (const pair of [0, 2]) {
      const radius = Math.sqrt(-2 * Math.log(uniform[pair])), angle = 2 * Math.PI * uniform[pair + 1];
      const at = n - start + pair; // what lies outside the array is dropped
      numbers[at] = radius * Math.cos(angle);
      numbers[at + 1] = radius * Math.sin(angle);
    }
  }
  return numbers;
};

/** A whole number from 0 to count - 1, each as likely as any other.
 * @param {bigint} seed @param {number} count @param {bigint} [stream] */
export const choice = (seed, count, stream = ITEM) =>
  Number((BigInt(words(seed, 0n, stream)[0]) * BigInt(count)) >> 32n);
