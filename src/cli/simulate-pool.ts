/**
 * Runs plans on worker threads, each at its own time, and gives the results in the order of the
 * plans. What comes out does not depend on how many workers there are: a plan has its own
 * machine and its own seed.
 */

import { Worker } from "node:worker_threads";
import type { AnyPlan, SimulationResult } from "#workloads";
import { InterruptedError } from "./errors.js";
import type { Interruption } from "./interruption.js";
import type { Progress } from "./progress.js";
import type { FromWorker } from "./simulate-worker.js";

/** The bar counts thousandths of a plan. */
const BAR_STEPS = 1000;

export async function runPlans(
  plans: readonly AnyPlan[],
  workersMax: number,
  progress: Progress,
  interruption: Interruption,
): Promise<readonly SimulationResult[]> {
  const pool = new Pool(plans, progress);
  const stop = (): void => pool.fail(new InterruptedError());
  interruption.signal.addEventListener("abort", stop);
  progress.begin("simulating", plans.length * BAR_STEPS);
  try {
    return await pool.run(Math.min(workersMax, plans.length));
  } finally {
    interruption.signal.removeEventListener("abort", stop);
    progress.stop();
    await pool.end();
  }
}

class Pool {
  readonly #plans: readonly AnyPlan[];
  readonly #progress: Progress;
  readonly #results: SimulationResult[] = [];
  readonly #workers: Worker[] = [];
  /** By plan, 0 to 1. */
  readonly #done: number[];
  #next = 0;
  #finished = 0;
  #resolve: (results: readonly SimulationResult[]) => void = () => {};
  #reject: (error: Error) => void = () => {};

  constructor(plans: readonly AnyPlan[], progress: Progress) {
    this.#plans = plans;
    this.#progress = progress;
    this.#done = plans.map(() => 0);
  }

  run(workers: number): Promise<readonly SimulationResult[]> {
    return new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
      for (let n = 0; n < workers; n++) this.#start();
    });
  }

  fail(error: Error): void {
    this.#reject(error);
  }

  async end(): Promise<void> {
    await Promise.all(this.#workers.map((worker) => worker.terminate()));
  }

  #start(): void {
    const worker = new Worker(new URL("./simulate-worker.js", import.meta.url));
    this.#workers.push(worker);
    let current = this.#give(worker);
    worker.on("message", (message: FromWorker) => {
      if (message.kind === "progress") this.#note(current, message.progress);
      else if (message.kind === "failed") this.fail(failureOf(message));
      else {
        this.#results[current] = message.result;
        this.#note(current, 1);
        this.#finished++;
        if (this.#finished === this.#plans.length) this.#resolve(this.#results);
        else current = this.#give(worker);
      }
    });
    worker.on("error", (error) => this.fail(error));
  }

  /** Hands the worker the next plan, if there is one; returns its number. */
  #give(worker: Worker): number {
    const index = this.#next;
    if (index < this.#plans.length) {
      this.#next++;
      worker.postMessage(this.#plans[index]);
    }
    return index;
  }

  #note(index: number, done: number): void {
    this.#done[index] = done;
    const whole = this.#done.reduce((sum, part) => sum + part, 0);
    this.#progress.update(Math.floor(whole * BAR_STEPS));
  }
}

function failureOf({ message, stack }: { message: string; stack: string }): Error {
  const error = new Error(message);
  error.stack = stack;
  return error;
}
