// The bundle's own files, read as they are: safetensors by ranges, a FAISS index, half precision.

/** Numbers of all 65,536 half-precision patterns. */
const HALF = Float32Array.from({ length: 65536 }, (_, bits) => {
  const sign = bits & 0x8000 ? -1 : 1, exponent = (bits >> 10) & 31, fraction = bits & 1023;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -24 * fraction);
});

/** @param {Uint8Array} bytes of float16 numbers @param {Float32Array} [numbers] where they go
 * @returns {Float32Array} */
export const fromHalf = (bytes, numbers = new Float32Array(bytes.length / 2)) => {
  const { buffer, byteOffset, length } = bytes.byteOffset % 2 ? bytes.slice() : bytes;
  const halves = new Uint16Array(buffer, byteOffset, length / 2);
  for (let at = 0; at < halves.length; at++) numbers[at] = HALF[halves[at]];
  return numbers;
};

/** Gives memory back at once, where the browser can: its own collector may come too late for a phone.
 * @param {Uint8Array} bytes made here, that nobody reads any more; what the browser made it holds on to */
export const free = (bytes) => { /** @type {any} */ (bytes.buffer).transfer?.(0); };

const PIECE = 2 ** 20; // bytes of a file that are in memory at once while it is copied

/** The bytes of a file, a piece at a time. @param {Blob} file @param {number} [start] */
const pieces = async function* pieces(file, start = 0) {
  for (let at = start; at < file.size; at += PIECE) {
    yield { at: at - start, bytes: new Uint8Array(await file.slice(at, at + PIECE).arrayBuffer()) };
  }
};

/** All bytes of a file, in memory that can be given back. @param {Blob} file */
export const bytesOf = async (file) => {
  const all = new Uint8Array(file.size);
  for await (const { at, bytes } of pieces(file)) all.set(bytes, at);
  return all;
};

/** All numbers of a safetensors file in half precision. @param {Blob} file */
export const numbersOf = async (file) => {
  const head = new DataView(await file.slice(0, 8).arrayBuffer()), start = 8 + Number(head.getBigUint64(0, true));
  const numbers = new Float32Array((file.size - start) / 2);
  for await (const { at, bytes } of pieces(file, start)) fromHalf(bytes, numbers.subarray(at / 2));
  return numbers;
};

/** A file that does not come. */
export class Missing extends Error {}

/** Answers of the server, or a line that names what is missing. @param {string} address @param {RequestInit} [how] */
export const get = async (address, how) => {
  const answer = await fetch(address, how).catch(() => null);
  if (!answer?.ok) throw new Missing(`${address.split("/").pop()} could not be loaded: is there a network?`);
  return answer;
};

/** A file on the server, of which parts are wanted. */
export class Parts {
  /** @param {string} address */
  constructor(address) {
    this.address = address;
    /** @type {Blob | null} */
    this.whole = null; // some servers send all of it, whatever is asked for
  }

  /** @param {number} start @param {number} end @returns {Promise<Uint8Array>} */
  async read(start, end) {
    if (!this.whole) {
      const answer = await get(this.address, { headers: { Range: `bytes=${start}-${end - 1}` } });
      if (answer.status === 206) return new Uint8Array(await answer.arrayBuffer());
      this.whole = await answer.blob();
    }
    return new Uint8Array(await this.whole.slice(start, end).arrayBuffer());
  }
}

/** Rows of the only tensor of a safetensors file, in half precision. */
export class Rows {
  /** @param {Parts} file @param {number} start @param {number[]} shape */
  constructor(file, start, shape) {
    this.file = file;
    this.start = start;
    this.shape = shape;
    this.bytes = 2 * shape.slice(1).reduce((a, b) => a * b, 1);
  }

  /** @param {string} address */
  static async open(address) {
    const file = new Parts(address);
    const length = Number(new DataView((await file.read(0, 8)).slice().buffer).getBigUint64(0, true));
    const header = JSON.parse(new TextDecoder().decode(await file.read(8, 8 + length)));
    const { __metadata__: _, ...tensors } = header;
    const [{ shape, data_offsets: [offset] }] = Object.values(tensors);
    return new Rows(file, 8 + length + offset, shape);
  }

  /** The rows of some items, one after another. @param {number[]} items */
  async take(items) {
    const parts = await Promise.all(items.map((item) => {
      const at = this.start + item * this.bytes;
      return this.file.read(at, at + this.bytes);
    }));
    const numbers = new Float32Array((items.length * this.bytes) / 2);
    parts.forEach((part, n) => numbers.set(fromHalf(part), (n * this.bytes) / 2));
    return numbers;
  }
}

/** The vectors of an exact FAISS index. @param {ArrayBuffer} file */
export const readIndex = (file) => {
  const view = new DataView(file), kind = new TextDecoder().decode(file.slice(0, 4));
  const [dim, count] = [view.getInt32(4, true), Number(view.getBigInt64(8, true))];
  const start = file.byteLength - 4 * dim * count; // behind a header whose length varies
  if (kind !== "IxFI" || start < 0) throw new Error("the index is of another kind than this page reads");
  return { dim, count, vectors: new Float32Array(file.slice(start)) };
};
