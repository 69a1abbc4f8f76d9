/** The kernel's DMA map benchmark: its parameters, its run, its output, and a reader of that. */

export {
  complaintOf,
  DEFAULT_PARAMETERS,
  DIRECTION_NAMES,
  type MapBenchmarkParameters,
  MapMode,
} from "./options.js";
export { benchmarkText, type MapBenchmarkResult } from "./output.js";
export { BenchmarkTextError, type PrintedBenchmark, parseBenchmarks } from "./parse.js";
export {
  MapBenchmark,
  MapBenchmarkError,
  type MapBenchmarkOptions,
  type MapBenchmarkOutcome,
  nodesOf,
} from "./run.js";
