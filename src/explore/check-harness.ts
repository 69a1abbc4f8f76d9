/** Checks one harness under one memory model, and reports in words that people and files keep. */

import { setMaxListeners } from "node:events";
import type { MemoryModel } from "#machine";
import { BoundedScheduler } from "./bounded.js";
import { DporScheduler } from "./dpor.js";
import type { Harness } from "./harness.js";
import { localRunner, type OnExplored, runSearch, workerRunner } from "./jobs.js";
import { type Narration, narrate } from "./narrate.js";
import { divided, explore, type SearchState } from "./parallel.js";
import { RandomWalkScheduler } from "./random-walk.js";
import type { Schedule } from "./schedule.js";
import type { SearchScheduler } from "./scheduler.js";
import { Search, type SearchLimits, type SearchResult } from "./search.js";
import { shrink } from "./shrink.js";

export interface CheckOptions extends SearchLimits {
  readonly memoryModel: MemoryModel;
  /** Schedules with at most so many preemptions only, all of them (`Preemptions`). */
  readonly preemptionsMax?: number;
  /** Random walks from this seed instead of a complete search. */
  readonly seed?: number;
  /** Longer executions are cut, and the search is not complete then. */
  readonly eventsMax?: number;
  readonly isTwice?: boolean;
}

/** Of a check that may take hours. */
export interface LongCheckOptions extends CheckOptions {
  /** Worker threads; without them, and with a bound or a seed always, in this thread. */
  readonly workers?: number;
  /** The mutant that is in this build: the workers load it, too. */
  readonly mutant?: string;
  /** URL of the module that exports the harness, where it is not of this room: for the workers. */
  readonly module?: string;
  /** Of the complete search: what an earlier one left. */
  readonly state?: SearchState;
  /** Ends the check, which is incomplete then. */
  readonly signal?: AbortSignal;
  /** Told now and then how many executions were explored, pruned ones included. */
  readonly onExplored?: OnExplored;
}

export interface LongCheck {
  readonly report: CheckReport;
  /** What is left of a complete search; undefined for those within a bound or from a seed. */
  readonly state: SearchState | undefined;
}

/**
 * `clean`: everything was explored, no rule broken, every goal reached. `clean within bound`: the
 * same of all schedules with at most `preemptionsMax` preemptions, which is not everything.
 * `incomplete`: nothing found, and not everything explored.
 */
export type Verdict = "clean" | "clean within bound" | "violation" | "goals missed" | "incomplete";

export interface CheckReport extends Omit<SearchResult, "violation"> {
  readonly verdict: Verdict;
  /** Preemptions that were allowed at most; any number where not given. */
  readonly preemptionsMax: number | undefined;
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
export const EVENTS_MAX = 4000;

export function checkHarness(harness: Harness, options: CheckOptions): CheckReport {
  const search = new Search(harness, schedulerFor(options), options);
  return judge(harness, options, search.run());
}

/** The same, while the thread hears of other things, and on worker threads if asked for. */
export async function checkLong(harness: Harness, options: LongCheckOptions): Promise<LongCheck> {
  const stop = new AbortController();
  // Each worker listens.
  setMaxListeners(0, stop.signal);
  const onStop = (): void => stop.abort();
  const { signal, secondsMax, preemptionsMax, seed } = options;
  const timer = secondsMax === undefined ? undefined : setTimeout(onStop, timeoutMs(secondsMax));
  if (signal?.aborted) onStop();
  signal?.addEventListener("abort", onStop);
  try {
    if (preemptionsMax === undefined && seed === undefined) {
      return await searchAll(harness, options, stop);
    }
    const search = new Search(harness, schedulerFor(options), options);
    await runSearch(search, stop.signal, options.onExplored ?? (() => {}));
    return { report: judge(harness, options, search.result()), state: undefined };
  } finally {
    signal?.removeEventListener("abort", onStop);
    clearTimeout(timer);
  }
}

/** The complete search, or what is left of it. */
async function searchAll(
  harness: Harness,
  options: LongCheckOptions,
  stop: AbortController,
): Promise<LongCheck> {
  const beganMs = Date.now();
  const { memoryModel, workers, executionsMax, isTwice, eventsMax = EVENTS_MAX } = options;
  const begin = beginning(harness, options);
  // Found before there was anybody to work on it.
  const { explored: first } = begin;
  if (first?.violation !== undefined) {
    return { report: judge(harness, options, first), state: begin };
  }
  const count = Math.min(workers ?? 1, begin.stacks.length);
  const runners = Array.from({ length: count }, () =>
    workers === undefined ? localRunner(harness, stop.signal) : workerRunner(stop.signal),
  );
  try {
    const crew = { runners, stop, onExplored: options.onExplored ?? (() => {}) };
    const job = {
      harness: harness.name,
      module: options.module,
      mutant: options.mutant,
      memoryModel,
      eventsMax,
      ...(executionsMax !== undefined && { executionsMax }),
      ...(isTwice && { isTwice }),
    };
    const state = await explore(crew, begin, job);
    const secondsBefore = options.state?.explored?.seconds ?? 0;
    const seconds = secondsBefore + (Date.now() - beganMs) / 1000;
    const explored = { ...state.explored, seconds };
    return { report: judge(harness, options, explored), state: { ...state, explored } };
  } finally {
    await Promise.all(runners.map((runner) => runner.end()));
  }
}

/** Everything, or what is left of it, in as many parts as keep workers busy. */
function beginning(harness: Harness, options: LongCheckOptions): SearchState {
  const { workers = 0, memoryModel, eventsMax = EVENTS_MAX } = options;
  const { state = { explored: undefined, stacks: [[]] } } = options;
  if (state.stacks.length >= workers) return state;
  return divided(harness, state, { memoryModel, eventsMax });
}

/** What a timer can take: longer is for ever. */
function timeoutMs(seconds: number): number {
  return Math.min(seconds * 1000, 2 ** 31 - 1);
}

function judge(
  harness: Harness,
  { memoryModel, preemptionsMax }: Pick<CheckOptions, "memoryModel" | "preemptionsMax">,
  found: SearchResult,
): CheckReport {
  const { violation, ...rest } = found;
  const result = { ...rest, preemptionsMax };
  if (violation === undefined) {
    const isMissed = result.isComplete && result.goalsMissed.length > 0;
    const clean = preemptionsMax === undefined ? "clean" : "clean within bound";
    const verdict = isMissed ? "goals missed" : result.isComplete ? clean : "incomplete";
    return { ...result, verdict, counterexample: undefined };
  }
  const { schedule } = shrink(harness, memoryModel, violation);
  const narration = narrate(harness, memoryModel, schedule);
  const message = narration.message ?? violation.message;
  const counterexample = { message, schedule, found: violation.schedule, narration };
  return { ...result, verdict: "violation", counterexample };
}

/** What a harness is explored with where nothing else is asked for. */
export function schedulerOf({ preemptionsMax }: Harness): SearchScheduler {
  return schedulerFor(preemptionsMax === undefined ? {} : { preemptionsMax });
}

function schedulerFor({
  preemptionsMax,
  seed,
  eventsMax = EVENTS_MAX,
}: Partial<CheckOptions>): SearchScheduler {
  if (seed !== undefined) return new RandomWalkScheduler(seed, eventsMax);
  if (preemptionsMax !== undefined) return new BoundedScheduler(eventsMax, preemptionsMax);
  return new DporScheduler(eventsMax);
}
