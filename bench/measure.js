/**
 * How the benchmarks are measured: every case runs in a process of its own, so that none
 * sees code that another one has specialised, and gives one row of numbers.
 *
 * A case is `{ name, unit, target, prepare }`. `prepare` returns a function that takes one
 * sample; its result is a rate or a time in `unit`, or an object of several samples that
 * were taken together.
 */

/** What one case came to: the median of its samples, and how far apart they lie. */
export function summarise(samples) {
  const sorted = [...samples].sort((a, b) => a - b);
  return {
    median: quantile(sorted, 0.5),
    low: sorted[0],
    high: sorted[sorted.length - 1],
    samples: sorted.length,
  };
}

export function median(samples) {
  return quantile(
    [...samples].sort((a, b) => a - b),
    0.5,
  );
}

function quantile(sorted, fraction) {
  const at = (sorted.length - 1) * fraction;
  const below = sorted[Math.floor(at)];
  return below + (sorted[Math.ceil(at)] - below) * (at - Math.floor(at));
}

/** Runs a case: samples until `warmMs` have passed are thrown away. */
export async function runCase(benchmark, { warmMs = 600, samples = benchmark.samples ?? 9 } = {}) {
  const sample = await benchmark.prepare();
  const startMs = performance.now();
  do await sample();
  while (performance.now() - startMs < warmMs);
  const taken = [];
  for (let n = 0; n < samples; n++) taken.push(await sample());
  return summarise(taken);
}

/** Keeps a result from being optimised away. */
export function consume(value) {
  if (value === consume) throw new Error("never");
}
