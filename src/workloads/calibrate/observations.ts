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
