/**
 * What was measured, as the fit takes it: runs of the real benchmark with their mode, and from
 * each the latencies that say something. Also: whether they can say enough.
 */

import type { PrintedBenchmark } from "../map-benchmark/index.js";
import type { Mode } from "../mode.js";
import { FREE_PARAMETERS } from "./parameters.js";

export interface MeasuredRun {
  /** Where it comes from, for people. */
  readonly source: string;
  readonly mode: Mode;
  readonly printed: PrintedBenchmark;
}

export interface Observation {
  readonly run: number;
  readonly kind: "map" | "unmap";
  readonly ns: number;
  /** Relative standard error: what the tool's rounding leaves, and no less than runs repeat to. */
  readonly error: number;
}

/** The kernel cuts each latency to 100 ns, and the average again. */
const CUT_NS = 100;
/** Standard deviation of what a cut takes away, evenly spread. */
const CUT_ERROR_NS = CUT_NS / Math.sqrt(12);
/** How well runs of a benchmark repeat at best. */
const REPEAT_ERROR = 0.03;
/** Threads from which on CPUs get into each other's way. */
const CONTENDED_THREADS = 16;
/** Threads up to which they do not. */
const FREE_THREADS = 2;

/** Latencies of all runs; what was printed as 0.0 says nothing. */
export function observationsOf(runs: readonly MeasuredRun[]): Observation[] {
  return runs.flatMap(({ printed }, run) => {
    const { mapUs, mapDeviationUs, unmapUs, unmapDeviationUs } = printed;
    return [
      ...observation(run, "map", mapUs, mapDeviationUs),
      ...observation(run, "unmap", unmapUs, unmapDeviationUs),
    ];
  });
}

function observation(
  run: number,
  kind: Observation["kind"],
  averageUs: number,
  deviationUs: number,
): Observation[] {
  if (averageUs === 0) return [];
  // Equal latencies lose once what spread ones lose twice.
  const lostNs = deviationUs === 0 ? CUT_NS / 2 : CUT_NS;
  const ns = averageUs * 1000 + lostNs;
  return [{ run, kind, ns, error: Math.hypot(REPEAT_ERROR, CUT_ERROR_NS / ns) }];
}

/** Without contention an unmap takes longer in this order: each does what the one before does not. */
const RANKS: Readonly<Record<Mode, number>> = { passthrough: 0, lazy: 1, strict: 2 };

/**
 * Two runs whose modes cannot be what is said of them, in words; undefined when there are none.
 * Contention may turn the order round (an allocator's lock in lazy mode), so only runs without it
 * count, of the same buffers, whose averages differ by more than the tool cuts off.
 */
export function mistakenModes(runs: readonly MeasuredRun[]): string | undefined {
  const free = runs.filter(({ printed }) => printed.threads <= FREE_THREADS);
  for (const slow of free) {
    for (const fast of free) {
      if (RANKS[slow.mode] >= RANKS[fast.mode] || !areAlike(slow.printed, fast.printed)) continue;
      const [slowUs, fastUs] = [slow.printed.unmapUs, fast.printed.unmapUs];
      if (Math.round((slowUs - fastUs) * 1000) <= CUT_NS) continue;
      return (
        `${slow.source} (${slow.mode}) takes ${slowUs} us for an unmap and ${fast.source} ` +
        `(${fast.mode}) only ${fastUs} us: the modes of the files are mistaken; ` +
        `exchange ${slow.mode}= and ${fast.mode}=`
      );
    }
  }
  return undefined;
}

function areAlike(one: PrintedBenchmark, other: PrintedBenchmark): boolean {
  return (
    one.granule === other.granule &&
    one.mapMode === other.mapMode &&
    one.direction === other.direction
  );
}

/** What is missing for the parameters to be known, as a run to add; undefined when nothing is. */
export function missingRun(runs: readonly MeasuredRun[]): string | undefined {
  const has = (mode: Mode, least: number, most: number): boolean =>
    runs.some(({ mode: its, printed }) => {
      return its === mode && printed.threads >= least && printed.threads <= most;
    });
  const [work, sync, transfer] = FREE_PARAMETERS;
  if (!has("strict", 1, FREE_THREADS)) return sync.neededRun;
  if (!has("lazy", 1, FREE_THREADS)) return work.neededRun;
  if (!has("strict", CONTENDED_THREADS, Number.POSITIVE_INFINITY)) return transfer.neededRun;
  return undefined;
}
