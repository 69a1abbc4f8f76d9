/** Searching the interleavings and memory reorderings of small systems for what breaks a rule. */

export { DporScheduler } from "./dpor.js";
export { ExhaustiveScheduler } from "./exhaustive.js";
export { check, type Harness, type Reach, type Scenario, ViolationError } from "./harness.js";
export { findHarness, HARNESSES } from "./harnesses/index.js";
export { DivergedError, Replayer, type Schedule } from "./schedule.js";
export type { SearchScheduler } from "./scheduler.js";
export {
  NondeterminismError,
  Search,
  type SearchOptions,
  type SearchResult,
  type Violation,
} from "./search.js";
