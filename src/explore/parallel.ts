/**
 * One search on several worker threads. The top of the tree, a few events deep, is gone through in
 * full by the coordinator; each path that it comes to is a job, whose worker explores all that is
 * below with the usual reduction. Sleep sets go along with the jobs, so that none repeats what
 * another one shows.
 */

import { Worker } from "node:worker_threads";
import type { MemoryModel } from "#machine";
import { DporScheduler, type StackEntry } from "./dpor.js";
import type { Harness } from "./harness.js";
import { Search, type SearchLimits, type SearchResult } from "./search.js";

export interface ParallelOptions extends SearchLimits {
  readonly memoryModel: MemoryModel;
  readonly workers: number;
  readonly eventsMax: number;
  /** By name: the workers load it, too. */
  readonly mutant?: string | undefined;
  /** Events that the coordinator goes through in full; more give more and smaller jobs. */
  readonly splitDepth?: number;
}

/** What a worker is told, and answers with a `SearchResult`. */
export interface Job extends SearchLimits {
  readonly harness: string;
  readonly mutant: string | undefined;
  readonly memoryModel: MemoryModel;
  readonly eventsMax: number;
  readonly stack: readonly StackEntry[];
}

/** Three CPUs make some dozens of jobs of it. */
const SPLIT_DEPTH = 5;

export async function searchParallel(
  harness: Harness,
  options: ParallelOptions,
): Promise<SearchResult> {
  const beganMs = Date.now();
  const { memoryModel, eventsMax, mutant, executionsMax, secondsMax } = options;
  const { result, stacks } = split(harness, options);
  const results = [result];
  const limits = {
    ...(executionsMax !== undefined && { executionsMax }),
    ...(secondsMax !== undefined && { secondsMax }),
  };
  const jobs = stacks.map(
    (stack): Job => ({ harness: harness.name, mutant, memoryModel, eventsMax, stack, ...limits }),
  );
  if (result.violation === undefined) results.push(...(await runJobs(jobs, options)));
  return { ...merged(results), seconds: (Date.now() - beganMs) / 1000 };
}

/** Goes through the top of the tree; returns the paths that others go on from. */
export function split(
  harness: Harness,
  { memoryModel, eventsMax, splitDepth }: Omit<ParallelOptions, "workers">,
): { readonly result: SearchResult; readonly stacks: StackEntry[][] } {
  const stacks: StackEntry[][] = [];
  const scheduler = new DporScheduler(eventsMax, splitDepth ?? SPLIT_DEPTH);
  const onSplit = (): void => void stacks.push(scheduler.saveSplit(search.machine));
  const search = new Search(harness, scheduler, { memoryModel, onSplit });
  return { result: search.run(), stacks };
}

/** Explores what is below a saved path. */
export function searchBelow(harness: Harness, job: Job): SearchResult {
  const scheduler = new DporScheduler(job.eventsMax);
  const search = new Search(harness, scheduler, job);
  search.resume(scheduler, job.stack);
  return search.run();
}

/** Hands out jobs until all are done, one has found something, or the time is up. */
function runJobs(jobs: readonly Job[], options: ParallelOptions): Promise<SearchResult[]> {
  const results: SearchResult[] = [];
  const count = Math.min(options.workers, jobs.length);
  const endMs = Date.now() + (options.secondsMax ?? Number.POSITIVE_INFINITY) * 1000;
  const workers = Array.from({ length: count }, () => {
    return new Worker(new URL("./search-worker.js", import.meta.url));
  });
  const left = [...jobs];
  const done = new Promise<SearchResult[]>((resolve, reject) => {
    if (jobs.length === 0) resolve(results);
    for (const worker of workers) {
      worker.on("error", reject);
      worker.on("message", (result: SearchResult) => {
        results.push(result);
        const isOver = result.violation !== undefined || results.length === jobs.length;
        const isLate = Date.now() > endMs;
        const next = isLate ? undefined : left.shift();
        if (next !== undefined && !isOver) worker.postMessage(next);
        else if (isOver || isLate) {
          // What is left, or under way, counts as not explored.
          if (isLate) results.push({ ...result, ...NOTHING, isComplete: false });
          resolve(results);
        }
      });
      worker.postMessage(left.shift());
    }
  });
  return done.finally(() => Promise.all(workers.map((worker) => worker.terminate())));
}

const NOTHING = { executions: 0, pruned: 0, tooDeep: 0, eventCount: 0 };

function merged(results: readonly SearchResult[]): SearchResult {
  const sum = (of: (result: SearchResult) => number): number =>
    results.reduce((total, result) => total + of(result), 0);
  const reached = new Set(results.flatMap(({ goalsReached }) => goalsReached));
  const goals = [...results[0].goalsReached, ...results[0].goalsMissed];
  return {
    ...results[0],
    executions: sum(({ executions }) => executions),
    pruned: sum(({ pruned }) => pruned),
    tooDeep: sum(({ tooDeep }) => tooDeep),
    eventCount: sum(({ eventCount }) => eventCount),
    depthMax: Math.max(...results.map(({ depthMax }) => depthMax)),
    isComplete: results.every(({ isComplete }) => isComplete),
    violation: results.find(({ violation }) => violation !== undefined)?.violation,
    goalsReached: [...reached],
    goalsMissed: goals.filter((goal) => !reached.has(goal)),
  };
}
