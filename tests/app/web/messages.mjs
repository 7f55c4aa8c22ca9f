// Messages of the server as the tests need them.

/** One message of a run of `grid` x `grid` blocks; all of them done. */
export const message = (changes = {}) => {
  const grid = changes.grid ?? 2;
  return {
    state: "running", run: "a", before: null, back: null, error: null, source: "cats", grid,
    repaint: null, used: [3, 5], own: {}, ids: [3, 5], position: [0, 0], index: 1,
    num_blocks: grid ** 2, step: 1, total_steps: 2, calls: 2, seconds: 0.5, seed: "7", spent: [],
    done: "1".repeat(grid ** 2), active: "0".repeat(grid ** 2), cells: grid, attention: "",
    frame: "data:image/webp;base64,", ...changes,
  };
};

/** The bytes of an attention map, one for each neighbor and cell, as the server sends them. */
export const bytes = (...levels) => btoa(String.fromCharCode(...levels));
