/**
 * What a harness is: a small system of agents, built anew for every execution, with what must
 * hold of it. docs/concurrency/writing-a-harness.md shows how to write one.
 */

import type { ExploredMachine, ExploredOptions, MemoryModel } from "#machine";

/** Says that a state was reached which the search has to reach at least once. */
export type Reach = (goal: string) => void;

/** One execution's system. What throws here or in an agent is a violation. */
export interface Scenario {
  /** Called after every event. May only look at what the last event touched, or at one location. */
  readonly atEachStep?: () => void;
  /** Called when every started routine of a CPU has ended and nobody can go on. */
  readonly atEnd?: () => void;
}

export interface Harness {
  readonly name: string;
  /** What is checked, in one line. */
  readonly title: string;
  /** Models it is checked with; the first is the default. */
  readonly memoryModels: readonly MemoryModel[];
  /** Too large for every run of the tests. */
  readonly isDeep?: boolean;
  /**
   * Too large for every schedule: those with at most so many preemptions are explored, unless
   * somebody asks for others.
   */
  readonly preemptionsMax?: number;
  readonly machine: Omit<ExploredOptions, "memoryModel">;
  /** States that a complete search must have reached: else the invariants held for want of action. */
  readonly goals: readonly string[];
  /**
   * Builds the objects of one execution and starts the agents. It must do the same every time;
   * what it reuses from before it must put back.
   */
  setup(machine: ExploredMachine, reach: Reach): Scenario;
}

/** A rule of a harness is broken. */
export class ViolationError extends Error {
  override readonly name = "ViolationError";
}

/** Throws unless `condition` holds. `rule` states what must be true. */
export function check(condition: boolean, rule: string): asserts condition {
  if (!condition) throw new ViolationError(rule);
}
