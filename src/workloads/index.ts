/** Workloads: whole systems to run, and the replay of captures. */

export { type IovaAge, IovaAgeError } from "./ageing.js";
export {
  type Calibration,
  CalibrationError,
  calibrate,
  changesOf,
  type FittedHead,
  type FittedParameter,
  type MeasuredRun,
  type Residual,
} from "./calibrate/index.js";
export { CommandLog } from "./command-log.js";
export { type Handover, type HandoverOptions, measureHandover } from "./handover.js";
export { Histogram } from "./histogram.js";
export {
  BenchmarkTextError,
  benchmarkText,
  complaintOf,
  DEFAULT_PARAMETERS,
  MapBenchmark,
  MapBenchmarkError,
  type MapBenchmarkOptions,
  type MapBenchmarkOutcome,
  type MapBenchmarkParameters,
  nodesOf,
  type PrintedBenchmark,
  parseBenchmarks,
} from "./map-benchmark/index.js";
export { MODES, type Mode } from "./mode.js";
export * as nvme from "./nvme/index.js";
export {
  type IovaSource,
  type Pace,
  Replay,
  type ReplayOptions,
  type ReplayResult,
  replay,
} from "./replay.js";
export {
  type AnyPlan,
  type BlockPlan,
  type Bottleneck,
  createSimulation,
  type Latency,
  NET_TESTS,
  type NetPlan,
  type NetTest,
  READ_WRITES,
  type ReadWrite,
  type ReceiveBuffers,
  type Resource,
  type Simulation,
  type SimulationPlan,
  type SimulationResult,
  verdictOf,
  type WhyLine,
  type WhyReport,
} from "./simulate/index.js";
export { Survey } from "./survey.js";
export {
  type CommandListener,
  createSystem,
  type DirectionName,
  MappingError,
  type ReadResult,
  type SmmuInstance,
  type System,
  type SystemCounters,
  type SystemDevice,
  type SystemOptions,
} from "./system.js";
export { measureUnmapRate, type UnmapRate, type UnmapRateOptions } from "./unmap-rate.js";
