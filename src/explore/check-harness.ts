/** Checks one harness under one memory model, and reports in words that people and files keep. */

import type { MemoryModel } from "#machine";
import { DporScheduler, type StackEntry } from "./dpor.js";
import { ExhaustiveScheduler } from "./exhaustive.js";
import type { Harness } from "./harness.js";
import { type Narration, narrate } from "./narrate.js";
import { type ParallelOptions, searchParallel } from "./parallel.js";
import { RandomWalkScheduler } from "./random-walk.js";
import type { Schedule } from "./schedule.js";
import type { SearchScheduler } from "./scheduler.js";
import { Search, type SearchLimits, type SearchResult } from "./search.js";
import { shrink } from "./shrink.js";

export interface CheckOptions extends SearchLimits {
  readonly memoryModel: MemoryModel;
  /** Schedules with at most so many preemptions only, all of them. */
  readonly preemptionsMax?: number;
  /** Random walks from this seed instead of a complete search. */
  readonly seed?: number;
  /** Longer executions are cut, and the search is not complete then. */
  readonly eventsMax?: number;
  readonly isTwice?: boolean;
  /** Of the complete search: where an earlier one stopped. */
  readonly stack?: readonly StackEntry[];
  /** Told where this one stopped; an empty stack has nothing left. */
  readonly onStop?: (stack: readonly StackEntry[]) => void;
  readonly onProgress?: (executions: number, pruned: number) => void;
}

/**
 * `clean`: everything within the bounds was explored, no rule broken, every goal reached.
 * `incomplete`: nothing found, and not everything explored.
 */
export type Verdict = "clean" | "violation" | "goals missed" | "incomplete";

export interface CheckReport extends Omit<SearchResult, "violation"> {
  readonly verdict: Verdict;
  readonly counterexample: Counterexample | undefined;
}

export interface Counterexample {
  readonly message: string;
  /** Shrunk; `found` is as the search found it. */
  readonly schedule: Schedule;
  readonly found: Schedule;
  readonly narration: Narration;
}

/** Longer than any harness's executions. */
export const EVENTS_MAX = 2000;

export function checkHarness(harness: Harness, options: CheckOptions): CheckReport {
  const scheduler = schedulerFor(options);
  const search = new Search(harness, scheduler, options);
  const isDpor = scheduler instanceof DporScheduler;
  if (isDpor && options.stack !== undefined) search.resume(scheduler, options.stack);
  const result = search.run();
  if (isDpor) options.onStop?.(scheduler.save(search.machine));
  return judge(harness, options.memoryModel, result);
}

/** The same, on worker threads; always the complete search. */
export async function checkParallel(
  harness: Harness,
  options: Omit<ParallelOptions, "eventsMax">,
): Promise<CheckReport> {
  const result = await searchParallel(harness, { ...options, eventsMax: EVENTS_MAX });
  return judge(harness, options.memoryModel, result);
}

function judge(harness: Harness, memoryModel: MemoryModel, found: SearchResult): CheckReport {
  const { violation, ...result } = found;
  if (violation === undefined) {
    const isMissed = result.isComplete && result.goalsMissed.length > 0;
    const verdict = isMissed ? "goals missed" : result.isComplete ? "clean" : "incomplete";
    return { ...result, verdict, counterexample: undefined };
  }
  const { schedule } = shrink(harness, memoryModel, violation);
  const narration = narrate(harness, memoryModel, schedule);
  const message = narration.message ?? violation.message;
  const counterexample = { message, schedule, found: violation.schedule, narration };
  return { ...result, verdict: "violation", counterexample };
}

function schedulerFor({
  preemptionsMax,
  seed,
  eventsMax = EVENTS_MAX,
}: CheckOptions): SearchScheduler {
  if (seed !== undefined) return new RandomWalkScheduler(seed, eventsMax);
  if (preemptionsMax !== undefined) return new ExhaustiveScheduler(eventsMax, preemptionsMax);
  return new DporScheduler(eventsMax);
}
