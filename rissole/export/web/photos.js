// A visitor's own photos: they stay in this browser, in its IndexedDB, until they are removed.

/**
 * @typedef {import("./databases.js").Encoded & {picture: Blob}} Photo
 * @typedef {{bundle: string, photos: Photo[], skipped: string[]}} Kept
 */

const [BASE, STORE] = ["rissole", "photos"];

/** @template T @param {IDBRequest<T>} request @returns {Promise<T>} */
const answered = (request) => new Promise((done, fail) => {
  request.onsuccess = () => done(request.result);
  request.onerror = () => fail(request.error);
});

/**
 * Does something in one transaction, and waits until it is on the disk.
 * @template T
 * @param {IDBTransactionMode} mode
 * @param {(store: IDBObjectStore) => IDBRequest<T>} work
 * @returns {Promise<T>}
 */
const inStore = async (mode, work) => {
  const opening = indexedDB.open(BASE, 1);
  opening.onupgradeneeded = () => { opening.result.createObjectStore(STORE); };
  const base = await answered(opening);
  try {
    const transaction = base.transaction(STORE, mode);
    const whole = new Promise((done, fail) => {
      transaction.oncomplete = () => done(null);
      transaction.onabort = () => fail(transaction.error);
    });
    const [value] = await Promise.all([answered(work(transaction.objectStore(STORE))), whole]);
    return value;
  } finally {
    base.close();
  }
};

/** Photos that were kept for this model: latents of another one say nothing to it.
 * @param {string} bundle @returns {Promise<Kept | null>} */
export const readPhotos = async (bundle) => (await inStore("readonly", (store) => store.get(bundle)).catch(() => null))
  ?? null;

/** Whether they could be kept: a browser may have no room, or allow no storage.
 * @param {Kept} kept @returns {Promise<boolean>} */
export const keepPhotos = (kept) =>
  inStore("readwrite", (store) => store.put(kept, kept.bundle)).then(() => true, () => false);

/** @param {string} bundle */
export const forgetPhotos = (bundle) => inStore("readwrite", (store) => store.delete(bundle)).catch(() => {});
