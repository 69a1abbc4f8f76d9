/** Searching the interleavings and memory reorderings of small systems for what breaks a rule. */

export {
  type CheckOptions,
  type CheckReport,
  type Counterexample,
  checkHarness,
  checkLong,
  EVENTS_MAX,
  type LongCheck,
  type LongCheckOptions,
  schedulerOf,
  type Verdict,
} from "./check-harness.js";
export { DporScheduler, type StackEntry } from "./dpor.js";
export { CommandConsumer } from "./hardware/command-consumer.js";
export { FlatDomain } from "./hardware/flat-domain.js";
export { TranslatingSmmu } from "./hardware/translating-smmu.js";
export { check, type Harness, type Reach, type Scenario, ViolationError } from "./harness.js";
export { findHarness, HARNESSES } from "./harnesses/index.js";
export { type Answer, type Job, localRunner, type OnExplored, type Runner } from "./jobs.js";
export {
  findMutant,
  loadMutant,
  MUTANTS,
  type Mutant,
  MutantError,
  patched,
} from "./mutants/index.js";
export { type NarratedStep, type Narration, narrate } from "./narrate.js";
export {
  findMutantOf,
  type HarnessModule,
  HarnessModuleError,
  loadHarnessModule,
} from "./outside.js";
export type { SearchState } from "./parallel.js";
export { RandomWalkScheduler } from "./random-walk.js";
export { DivergedError, Replayer, type Schedule } from "./schedule.js";
export type { SearchScheduler } from "./scheduler.js";
export {
  NondeterminismError,
  Search,
  type SearchOptions,
  type SearchResult,
  type Violation,
} from "./search.js";
export { shrink } from "./shrink.js";
export { sourceLineOf } from "./source-line.js";
