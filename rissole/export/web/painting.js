// From noise to a latent, a step at a time: the loop of `rissole/sampling.py` for one picture.
import { layOut, perCell } from "./blocks.js";
import { dpmSolver, euler, isGuided, levelsOf } from "./levels.js";

/**
 * @typedef {Record<string, {data: Float32Array | Uint8Array | BigInt64Array, dims: number[]}>} Tensors
 * @typedef {(name: string, inputs: Tensors) => Promise<Record<string, Float32Array>>} Run
 * @typedef {{channels: number, size: number, halo: number, listeners: number,
 *   flow_map: boolean, strength: boolean}} Shape
 * @typedef {{
 *   shape: Shape, noise: Float32Array, features: Tensors, count: number, visible: Uint8Array,
 *   usual?: Uint8Array, follow?: number,
 *   scale: number, steps: number, order: string, grid: number,
 *   init?: Float32Array | null, blocks?: number[][],
 * }} Plan
 * @typedef {{
 *   position: number[] | null, index: number, blocks: number, step: number, steps: number,
 *   estimate: Float32Array, done: boolean[], active: boolean[], attention: Float32Array, calls: number,
 * }} PaintStep
 */

/** @param {Plan} plan */
const groupsOf = ({ blocks = [], grid, order }) => {
  const all = Array.from({ length: grid * grid }, (_, at) => at);
  const chosen = blocks.length ? blocks.map(([row, col]) => row * grid + col) : all;
  return { chosen, groups: order === "sequential" ? chosen.map((at) => [at]) : [chosen] };
};

/** The blocks with neighbors of their own. @param {Plan} plan */
const ownBlocks = ({ visible, usual = visible, grid, count }) => {
  const all = Array.from({ length: grid * grid }, (_, at) => at);
  return all.filter((at) => usual.subarray(at * count, (at + 1) * count)
    .some((value, k) => value !== visible[at * count + k]));
};

/** How much each cell listened to each neighbor, on average so far.
 * @param {Plan} plan */
const listening = ({ shape: { size, halo }, grid, count }) => {
  const half = size / 2, cells = half * half;
  const shares = new Float32Array(count * cells), times = new Float32Array(cells);
  return {
    /** @type {(share: Float32Array, group: number[]) => void} */
    hear: (share, group) => {
      const laid = layOut(share, group, { size: half, grid, halo: halo / 2, channels: count, alone: true });
      laid.forEach((value, at) => { shares[at] += value; });
      const heard = perCell(Array.from({ length: grid * grid }, (_, at) => Number(group.includes(at))), grid, half);
      heard.forEach((value, at) => { times[at] += value; });
    },
    mean: () => shares.map((value, at) => value / Math.max(1, times[at % cells])),
  };
};

/**
 * The network on whole canvases.
 * @param {Run} run
 * @param {Plan} plan
 */
const networkOf = (run, plan) => {
  const { shape, grid, count, scale, order, features } = plan;
  const { channels, size, halo } = shape, together = order !== "independent";
  const heard = listening(plan), cells = [1, grid, grid];
  const { usual = plan.visible, follow = 1 } = plan, given = ownBlocks(plan);
  const led = follow === 1 ? [] : given; // see `_followed` in `rissole/sampling.py`
  const tensor = (/** @type {ArrayLike<number>} */ data, /** @type {number[]} */ dims) =>
    ({ data: Float32Array.from(data), dims });
  // networks that were trained to follow neighbors are told to, see `told_strength` there
  const told = Array.from({ length: grid * grid }, (_, at) => (given.includes(at) ? Math.min(follow, 1) : 0));
  let calls = 0;

  /** @type {(inputs: Tensors, group: number[], visible: Uint8Array) => Promise<Record<string, Float32Array>>} */
  const evaluate = (inputs, group, visible) => {
    calls += 1;
    return run(`step${grid}`, { ...inputs, ...features,
      visible: { data: visible, dims: [...cells, count] },
      index: { data: BigInt64Array.from(group, BigInt), dims: [group.length] } });
  };

  /** @type {(sample: Float32Array, level: number, end: number, group: number[], done: boolean[]) => Tensors} */
  const state = (sample, level, end, group, done) => {
    const painting = done.map((_, at) => group.includes(at));
    const levels = done.map((is, at) => (painting[at] ? level : Number(!is)));
    return {
      sample: tensor(sample, [1, channels, size, size]),
      levels: tensor(levels, cells),
      present: tensor(done.map((is, at) => Number(is || painting[at])), cells),
      context: tensor([Number(together)], [1]),
      ...(shape.flow_map && { ends: tensor(levels.map((own, at) => (painting[at] ? end : own)), cells),
        guidance: tensor([Math.max(1, scale)], [1]) }),
      ...(shape.strength && { strength: tensor(told, cells) }),
    };
  };

  /** @type {(windows: Float32Array, group: number[]) => Float32Array} */
  const laid = (windows, group) => layOut(windows, group, { size, grid, halo, channels, alone: !together });

  /** @type {(windows: Float32Array, inputs: Tensors, group: number[]) => Promise<Float32Array>} */
  const followed = async (windows, inputs, group) => {
    const some = group.filter((at) => led.includes(at)), each = windows.length / group.length;
    if (!some.length) return windows;
    const unled = shape.strength ? { ...inputs, strength: tensor(new Float32Array(grid * grid), cells) } : inputs;
    const less = (await evaluate(unled, some, usual)).windows, result = windows.slice();
    some.forEach((at, number) => {
      const start = group.indexOf(at) * each, from = number * each;
      for (let k = 0; k < each; k++) {
        result[start + k] = less[from + k] + follow * (windows[start + k] - less[from + k]);
      }
    });
    return result;
  };

  /** @type {(inputs: Tensors, group: number[]) => Promise<Float32Array>} */
  const blind = async (inputs, group) => {
    const nobody = new Uint8Array(plan.visible.length);
    if (group.length < grid * grid || !together) return laid((await evaluate(inputs, group, nobody)).windows, group);
    calls += 1;
    const { sample, levels } = inputs;
    return (await run("blind", { sample, level: tensor([Number(levels.data[0])], [1]) })).answer;
  };

  return {
    /**
     * @param {Float32Array} sample @param {number} level @param {number} end
     * @param {number[]} group @param {boolean[]} done @returns {Promise<Float32Array>}
     */
    answer: async (sample, level, end, group, done) => {
      const inputs = state(sample, level, end, group, done);
      const seen = scale === 0 ? new Uint8Array(plan.visible.length) : plan.visible;
      const { windows, share } = await evaluate(inputs, group, seen);
      heard.hear(share, group);
      const seeing = laid(scale === 0 ? windows : await followed(windows, inputs, group), group);
      if (shape.flow_map || !isGuided(level, scale)) return seeing;
      const less = await blind(inputs, group);
      return seeing.map((value, at) => less[at] + scale * (value - less[at]));
    },
    attention: heard.mean,
    calls: () => calls,
  };
};

/**
 * Paints a plan and yields after each step; whoever stops asking stops it.
 * @param {Run} run evaluates a graph
 * @param {Plan} plan
 * @returns {AsyncGenerator<PaintStep>}
 */
export async function* paint(run, plan) {
  const { shape, grid, steps } = plan;
  const { chosen, groups } = groupsOf(plan), network = networkOf(run, plan);
  let done = Array.from({ length: grid * grid }, (_, at) => !chosen.includes(at));
  let canvas = plan.init ?? new Float32Array(plan.noise.length);
  const cells = shape.size * shape.size;

  for (const [number, group] of groups.entries()) {
    const active = done.map((_, at) => group.includes(at)), here = perCell(active.map(Number), grid, shape.size);
    const upon = canvas;
    const masked = (/** @type {Float32Array} */ values) =>
      values.map((value, at) => (here[at % cells] ? value : upon[at]));
    const levels = levelsOf(steps, shape.flow_map);
    const advance = (shape.flow_map ? euler : dpmSolver)(levels);
    let sample = masked(plan.noise);
    for (let step = 1; step <= steps; step++) {
      const answer = await network.answer(sample, levels[step - 1], levels[step], group, done);
      if (!answer.every(Number.isFinite)) throw new Error("the network returned numbers that are not finite");
      const { next, clean } = advance(answer, sample);
      sample = masked(next);
      if (step === steps) done = done.map((is, at) => is || active[at]);
      yield {
        position: plan.order === "sequential" ? [Math.floor(group[0] / grid), group[0] % grid] : null,
        index: number + 1, blocks: groups.length, step, steps,
        estimate: step === steps ? sample : masked(clean),
        done, active, attention: network.attention(), calls: network.calls(),
      };
    }
    canvas = sample;
  }
}

