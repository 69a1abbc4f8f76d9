/**
 * How the benchmarks measure. A bench file exports `title` and `cases`; a case is a `name`
 * and `run()`, which gives rows. Every case runs in a process of its own, so that none
 * meets code that another one has specialised.
 *
 * A row: `{ name, unit, median, low, high, samples }`, with a `target` where we promised one.
 */

/** Samples are thrown away for this long, until the code is compiled. */
const WARM_MS = 400;
const SAMPLES = 7;

/**
 * A case of one row. `prepare` returns a function that takes one sample, a number in `unit`.
 * `target` is what the median is to reach.
 */
export function sampled({ name, unit, target, prepare }) {
  return {
    name,
    async run() {
      const sample = await prepare();
      const startMs = performance.now();
      do await sample();
      while (performance.now() - startMs < WARM_MS);
      const taken = [];
      for (let n = 0; n < SAMPLES; n++) taken.push(await sample());
      return [rowOf({ name, unit, target }, taken)];
    },
  };
}

/** What samples come to: their median, and how far apart they lie. */
export function rowOf(head, samples) {
  const sorted = [...samples].sort((a, b) => a - b);
  const [low, high] = [sorted[0], sorted[sorted.length - 1]];
  return { ...head, median: middleOf(sorted), low, high, samples: sorted.length };
}

function middleOf(sorted) {
  const half = Math.floor(sorted.length / 2);
  return sorted.length % 2 === 1 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
}

/**
 * Seconds of CPU time that `work` takes, all threads of the process together (compiler and
 * garbage collector are others): what it takes of a host that has a core free for it, and
 * the same on one that has not.
 */
export function cpuSecondsOf(work) {
  const before = process.cpuUsage();
  work();
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1e6;
}

/** Seconds that pass while `work` runs. */
export function secondsOf(work) {
  const startMs = performance.now();
  work();
  return (performance.now() - startMs) / 1000;
}
