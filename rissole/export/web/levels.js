// Noise levels and solvers of a run, as `rissole/models/scheduler.py` places and takes them.

const FEW = { 2: [1, 0.55, 0], 4: [1, 0.8, 0.55, 0.28, 0] };
const [LOW, HIGH] = [0.25, 0.85]; // where guidance acts, see `rissole/sampling.py`

/** Levels from 1 to 0, small steps at both ends. @param {number} steps */
export const spacedLevels = (steps) => Float32Array.from({ length: steps + 1 }, (_, n) => {
  const line = 1 - n / steps, level = line - (0.4 * Math.sin(2 * Math.PI * line)) / (2 * Math.PI);
  return (level * 0.75) / (1 - 0.25 * level);
});

/** @param {number} steps @param {boolean} flowMap whether the network answers for whole steps */
export const levelsOf = (steps, flowMap) =>
  (flowMap && steps in FEW ? Float32Array.from(FEW[/** @type {2 | 4} */ (steps)]) : spacedLevels(steps));

/** Whether a step takes a second, blind evaluation. @param {number} level @param {number} scale */
export const isGuided = (level, scale) => scale !== 0 && scale !== 1 && LOW <= level && level <= HIGH;

/** Network calls of a picture. @param {number} steps @param {number} scale @param {boolean} flowMap */
export const callsOf = (steps, scale, flowMap) =>
  steps + (flowMap ? 0 : [...levelsOf(steps, false).slice(0, -1)].filter((level) => isGuided(level, scale)).length);

/**
 * @typedef {(answer: Float32Array, sample: Float32Array) => {next: Float32Array, clean: Float32Array}} Step
 */

/** Just takes the steps of a flow map. @param {Float32Array} levels @returns {Step} */
export const euler = (levels) => {
  let n = 0;
  return (answer, sample) => {
    const [level, end] = [levels[n], levels[n + 1]];
    n += 1;
    return {
      next: sample.map((x, at) => x + Math.fround(end - level) * answer[at]),
      clean: sample.map((x, at) => x - level * answer[at]),
    };
  };
};

/**
 * DPM-Solver++ (2M, arXiv 2211.01095) on x = (1 - t) x0 + t e, as diffusers takes it: of first order
 * in the first step and in the last.
 * @param {Float32Array} levels
 * @returns {Step}
 */
export const dpmSolver = (levels) => {
  const logSnr = (/** @type {number} */ level) => Math.log(1 - level) - Math.log(level);
  const last = levels.length - 2;
  /** @type {Float32Array | null} */
  let before = null;
  let n = 0;
  return (answer, sample) => {
    const [level, end] = [levels[n], levels[n + 1]];
    const clean = sample.map((x, at) => x - level * answer[at]);
    const width = logSnr(end) - logSnr(level), shrink = Math.exp(-width) - 1;
    const lead = before && n < last ? width / (logSnr(level) - logSnr(levels[n - 1])) / 2 : 0;
    const next = sample.map((x, at) => {
      const aim = lead && before ? clean[at] + lead * (clean[at] - before[at]) : clean[at];
      return (end / level) * x - (1 - end) * shrink * aim;
    });
    before = clean;
    n += 1;
    return { next, clean };
  };
};
