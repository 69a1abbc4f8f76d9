/**
 * One search in parts. The top of the tree, a few events deep, is gone through in full; each path
 * that it comes to is a job, whose runner explores all that is below with the usual reduction.
 * Sleep sets go along with the jobs, so that none repeats what another one shows.
 */

import type { MemoryModel } from "#machine";
import { DporScheduler, type StackEntry } from "./dpor.js";
import type { Harness } from "./harness.js";
import type { Job, OnExplored, Runner } from "./jobs.js";
import { diverged } from "./schedule.js";
import { Search, type SearchResult } from "./search.js";

/** What is left of a search, and what came of the rest. Plain data. */
export interface SearchState {
  /** Sums of what was explored; undefined before anything was. */
  readonly explored: SearchResult | undefined;
  /** Paths to go on from; none when everything was explored. */
  readonly stacks: readonly (readonly StackEntry[])[];
}

/** A search that has begun. */
export interface Explored extends SearchState {
  readonly explored: SearchResult;
}

/** Three CPUs make some dozens of jobs of it. */
const SPLIT_DEPTH = 5;

export interface SplitOptions {
  readonly memoryModel: MemoryModel;
  readonly eventsMax: number;
  /** Events that are gone through in full; more give more and smaller jobs. */
  readonly splitDepth?: number;
}

/**
 * Goes through the top of the tree, or of what is left of it below a path's frozen states; what is
 * left then are the paths that others go on from. The first of them is the rest of the path.
 */
export function split(
  harness: Harness,
  { memoryModel, eventsMax, splitDepth = SPLIT_DEPTH }: SplitOptions,
  path: readonly StackEntry[] = [],
): Explored {
  const depth = path.filter((entry) => entry.isFrozen).length + splitDepth;
  const stacks: StackEntry[][] = [];
  let rest = path.slice(depth);
  const scheduler = new DporScheduler(eventsMax, depth);
  const onSplit = (): void => {
    stacks.push([...scheduler.saveSplit(search.machine), ...rest]);
    rest = [];
  };
  const search = new Search(harness, scheduler, { memoryModel, onSplit });
  if (path.length > 0) search.resume(scheduler, path.slice(0, depth));
  const explored = search.run();
  if (rest.length > 0) throw diverged(`nobody is left to go in step ${depth + 1}`);
  return { explored, stacks };
}

/** What is left of a search, in more parts. */
export function divided(harness: Harness, state: SearchState, options: SplitOptions): Explored {
  const parts = state.stacks.map((path) => split(harness, options, path));
  const results = parts.map(({ explored }) => explored);
  if (state.explored !== undefined) results.unshift(state.explored);
  const stacks = parts.flatMap((part) => part.stacks);
  return { explored: merged(results, stacks.length === 0), stacks };
}

/** Whom `explore` has to work with. */
export interface Crew {
  readonly runners: readonly Runner[];
  /** Stops all runners. */
  readonly stop: AbortController;
  /** Told now and then how many executions were explored by all of them. */
  readonly onExplored: OnExplored;
}

/**
 * Explores what is left of a search, until nothing is, something is found, `executionsMax` is
 * reached (by each of those who are at work then), or somebody stops it.
 */
export async function explore(
  { runners, stop, onExplored }: Crew,
  state: SearchState,
  job: Omit<Job, "stack">,
): Promise<Explored> {
  const results = state.explored === undefined ? [] : [state.explored];
  const queue = [...state.stacks];
  const left: (readonly StackEntry[])[] = [];
  const byRunner = runners.map(() => 0);
  let done = 0;
  const note = (): void => onExplored(byRunner.reduce((sum, one) => sum + one, done));
  const work = async (runner: Runner, index: number): Promise<void> => {
    for (let stack = queue.shift(); stack !== undefined; stack = queue.shift()) {
      const answer = await runner.run({ ...job, stack }, (executions) => {
        byRunner[index] = executions;
        note();
      });
      results.push(answer.result);
      if (answer.left !== undefined) left.push(answer.left);
      byRunner[index] = 0;
      done += answer.result.executions + answer.result.pruned;
      const { executionsMax } = job;
      const isOver = executionsMax !== undefined && done >= executionsMax;
      if (isOver || answer.result.violation !== undefined) stop.abort();
      if (stop.signal.aborted) break;
    }
  };
  await Promise.all(runners.map(work));
  const stacks = [...left, ...queue];
  return { explored: merged(results, stacks.length === 0), stacks };
}

/** Sums of what was explored in parts; `isAll` when nothing is left. */
export function merged(results: readonly SearchResult[], isAll: boolean): SearchResult {
  const sum = (of: (result: SearchResult) => number): number =>
    results.reduce((total, result) => total + of(result), 0);
  const reached = new Set(results.flatMap(({ goalsReached }) => goalsReached));
  const goals = [...results[0].goalsReached, ...results[0].goalsMissed];
  const isCut = results.some((result) => result.isCut);
  const violation = results.find((result) => result.violation !== undefined)?.violation;
  return {
    ...results[0],
    executions: sum(({ executions }) => executions),
    pruned: sum(({ pruned }) => pruned),
    tooDeep: sum(({ tooDeep }) => tooDeep),
    eventCount: sum(({ eventCount }) => eventCount),
    depthMax: Math.max(...results.map(({ depthMax }) => depthMax)),
    isComplete: isAll && !isCut && violation === undefined,
    isCut,
    violation,
    goalsReached: [...reached],
    goalsMissed: goals.filter((goal) => !reached.has(goal)),
  };
}
