/**
 * Parts of a search: a job is plain data and says from which path to explore; a runner, in this
 * thread or in a worker of its own, explores it and answers with what it found and, when it was
 * stopped, with the path to go on from. Whoever has runners ends them.
 */

import { setImmediate as nextTurn } from "node:timers/promises";
import { Worker } from "node:worker_threads";
import type { MemoryModel } from "#machine";
import { DporScheduler, type StackEntry } from "./dpor.js";
import type { Harness } from "./harness.js";
import { DivergedError } from "./schedule.js";
import { NondeterminismError, Search, type SearchLimits, type SearchResult } from "./search.js";

export interface Job extends SearchLimits {
  readonly harness: string;
  /** URL of the module that exports it; undefined for the harnesses of this room. */
  readonly module?: string | undefined;
  /** By name: a worker loads it, too. */
  readonly mutant?: string | undefined;
  readonly memoryModel: MemoryModel;
  readonly eventsMax: number;
  readonly isTwice?: boolean;
  /** Where to go on from; empty: everything is to be explored. */
  readonly stack: readonly StackEntry[];
}

export interface Answer {
  readonly result: SearchResult;
  /** Where to go on from; undefined when nothing is left. */
  readonly left: readonly StackEntry[] | undefined;
}

/** Told now and then how many executions of a job were explored. */
export type OnExplored = (executions: number) => void;

export interface Runner {
  /** One job at a time. Once the runner's signal is aborted, it answers soon. */
  run(job: Job, onExplored: OnExplored): Promise<Answer>;
  end(): Promise<void>;
}

/** Explores jobs of a harness in this thread, and lets the thread do other things in between. */
export function localRunner(harness: Harness, stop: AbortSignal): Runner {
  return {
    async run(job, onExplored) {
      const scheduler = new DporScheduler(job.eventsMax);
      const search = new Search(harness, scheduler, job);
      if (job.stack.length > 0) search.resume(scheduler, job.stack);
      await runSearch(search, stop, onExplored);
      const left = search.isExhausted ? undefined : scheduler.save(search.machine);
      return { result: search.result(), left };
    },
    async end() {},
  };
}

/** Runs a search to its end, or until it is to stop. */
export async function runSearch(
  search: Search,
  stop: AbortSignal,
  onExplored: OnExplored,
): Promise<void> {
  while (!search.runSome()) {
    onExplored(search.explored);
    await nextTurn();
    if (stop.aborted) break;
  }
}

export type ToWorker = { readonly kind: "job"; readonly job: Job } | { readonly kind: "stop" };

export type FromWorker =
  | { readonly kind: "explored"; readonly executions: number }
  | { readonly kind: "answer"; readonly answer: Answer }
  | { readonly kind: "failed"; readonly name: string; readonly message: string };

/** Explores jobs in a thread of its own. */
export function workerRunner(stop: AbortSignal): Runner {
  const worker = new Worker(new URL("./search-worker.js", import.meta.url));
  const say = (message: ToWorker): void => worker.postMessage(message);
  const onStop = (): void => say({ kind: "stop" });
  if (stop.aborted) onStop();
  stop.addEventListener("abort", onStop);
  let explored: OnExplored = () => {};
  let resolve: (answer: Answer) => void = () => {};
  let reject: (error: Error) => void = () => {};
  // A worker may fail between two jobs: the next one is told.
  let failure: Error | undefined;
  worker.on("error", (error: Error) => {
    failure = error;
    reject(error);
  });
  worker.on("message", (message: FromWorker) => {
    if (message.kind === "explored") explored(message.executions);
    else if (message.kind === "answer") resolve(message.answer);
    else reject(failureOf(message));
  });
  return {
    run(job, onExplored) {
      explored = onExplored;
      say({ kind: "job", job });
      return new Promise((...settle) => {
        [resolve, reject] = settle;
        if (failure !== undefined) reject(failure);
      });
    },
    async end() {
      stop.removeEventListener("abort", onStop);
      await worker.terminate();
    },
  };
}

/** An error loses its class on the way between threads. */
function failureOf({ name, message }: { name: string; message: string }): Error {
  if (name === "DivergedError") return new DivergedError(message);
  if (name === "NondeterminismError") return new NondeterminismError(message);
  return new Error(message);
}
