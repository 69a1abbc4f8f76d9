/**
 * The search: runs execution after execution of a harness, each as the scheduler says, until one
 * breaks a rule, all are explored, or a limit is reached.
 *
 * It never says that a harness passed when it was cut short: `isComplete` is true only if the
 * scheduler has nothing left to explore and no execution was left because it got too long.
 */

import { type Chooser, type ExploredMachine, exploredMachine, type MemoryModel } from "#machine";
import type { DporScheduler, StackEntry } from "./dpor.js";
import type { Harness, Scenario } from "./harness.js";
import { DivergedError, Replayer, type Schedule, scheduleOf } from "./schedule.js";
import type { SearchScheduler } from "./scheduler.js";

export interface SearchLimits {
  readonly executionsMax?: number;
  /** By the clock of the host: for people, not for tests. */
  readonly secondsMax?: number;
}

export interface Violation {
  /** What was broken, in one line. */
  readonly message: string;
  readonly schedule: Schedule;
}

export interface SearchResult {
  readonly harness: string;
  readonly memoryModel: MemoryModel;
  /** Executions that went to their end and broke nothing. */
  readonly executions: number;
  /** Executions given up because they repeat others. */
  readonly pruned: number;
  /** Executions cut because they got too long. */
  readonly tooDeep: number;
  readonly depthMax: number;
  readonly eventCount: number;
  /** Everything within the stated bounds was explored. */
  readonly isComplete: boolean;
  /** Some execution was cut, for its length or its interrupts: never complete. */
  readonly isCut: boolean;
  readonly violation: Violation | undefined;
  readonly goalsReached: readonly string[];
  /** Goals that no execution reached. */
  readonly goalsMissed: readonly string[];
  readonly seconds: number;
}

export interface SearchOptions extends SearchLimits {
  readonly memoryModel?: MemoryModel;
  /** Called with the machine at the end of every execution that was not given up. */
  readonly onExecution?: (machine: ExploredMachine) => void;
  /** CPUs that wait for ever are an end like another: for tests of the search itself. */
  readonly mayBlock?: boolean;
  /** An execution was left for others to go on from. */
  readonly onSplit?: () => void;
  /** Runs every execution twice and compares what was touched. */
  readonly isTwice?: boolean;
}

/** Long beside an execution, short to somebody who waits for the search to stop. */
const SLICE_MS = 50;

/** The same schedule had two outcomes: the harness depends on something else. */
export class NondeterminismError extends Error {
  override readonly name = "NondeterminismError";
  readonly code = "NONDETERMINISM";
}

export class Search {
  readonly harness: Harness;
  readonly machine: ExploredMachine;
  readonly #scheduler: SearchScheduler;
  readonly #options: SearchOptions;
  readonly #goalsReached = new Set<string>();
  #executions = 0;
  #pruned = 0;
  #tooDeep = 0;
  #events = 0;
  #scenario: Scenario = {};
  /** Nothing is left to explore. */
  isExhausted = false;
  #violation: Violation | undefined;
  #beganMs: number | undefined;
  readonly #reach = (goal: string): void => {
    this.#goalsReached.add(goal);
  };

  constructor(harness: Harness, scheduler: SearchScheduler, options: SearchOptions = {}) {
    this.harness = harness;
    this.#scheduler = scheduler;
    this.#options = options;
    const memoryModel = options.memoryModel ?? harness.memoryModels[0];
    this.machine = exploredMachine({ ...harness.machine, memoryModel });
  }

  /** Takes up where another search of the same harness and model stood. */
  resume(scheduler: DporScheduler, stack: readonly StackEntry[]): void {
    const { machine } = this;
    // The machine has to know its agents by name.
    machine.reset();
    this.harness.setup(machine, this.#reach);
    for (const detour of scheduler.load(machine, stack)) {
      scheduler.beginDetour(detour);
      try {
        this.#play(scheduler);
      } catch (error) {
        // What an event breaks was found when it was explored.
        if (error instanceof DivergedError) throw error;
      }
      scheduler.endDetour();
    }
  }

  /** Explores until something is found, nothing is left, or a limit is reached. */
  run(): SearchResult {
    while (!this.runSome());
    return this.result();
  }

  /** Explores for a moment; true when it ended, as `run` does. */
  runSome(): boolean {
    const { executionsMax = Infinity, secondsMax = Infinity } = this.#options;
    const beganMs = Date.now();
    this.#beganMs ??= beganMs;
    for (let nowMs = beganMs; nowMs < beganMs + SLICE_MS; nowMs = Date.now()) {
      this.#violation = this.#execute();
      if (this.#violation !== undefined || !this.#scheduler.advance()) {
        this.isExhausted = this.#violation === undefined;
        return true;
      }
      if (this.explored >= executionsMax || nowMs - this.#beganMs > secondsMax * 1000) return true;
    }
    return false;
  }

  /** Executions so far, those given up included. */
  get explored(): number {
    return this.#executions + this.#pruned;
  }

  #execute(): Violation | undefined {
    const { machine } = this;
    const scheduler = this.#scheduler;
    scheduler.begin();
    try {
      this.#play(scheduler);
      this.#events += machine.eventCount;
      scheduler.probeWaiting(machine);
      if (scheduler.isPruned) this.#pruned++;
      else if (scheduler.isSplit) this.#options.onSplit?.();
      else if (scheduler.isTooDeep) this.#tooDeep++;
      else this.#endExecution();
    } catch (error) {
      // The code is not what it was when the stack was saved: that is no rule broken.
      if (error instanceof DivergedError) throw error;
      return { message: messageOf(error), schedule: scheduleOf(machine) };
    }
    if (this.#options.isTwice) this.#repeat();
    return undefined;
  }

  #play(chooser: Chooser): void {
    const { machine } = this;
    machine.reset();
    this.#scenario = this.harness.setup(machine, this.#reach);
    machine.afterEvent = this.#scenario.atEachStep;
    machine.explore(chooser);
  }

  #endExecution(): void {
    const { machine } = this;
    const waiting = machine.unfinished();
    if (waiting.length > 0 && this.#options.mayBlock !== true)
      throw new Error(`nobody can go on: ${waiting.join("; ")}`);
    this.#scenario.atEnd?.();
    this.#executions++;
    this.#options.onExecution?.(machine);
  }

  /** The same schedule, played twice, must touch the same. */
  #repeat(): void {
    const depth = this.machine.eventCount;
    const schedule = scheduleOf(this.machine);
    const [first, second] = [0, 1].map(() => this.#fingerprintOf(schedule));
    if (first !== second || typeof first === "string" || this.machine.eventCount !== depth) {
      const error = [first, second].find((print) => typeof print === "string");
      throw new NondeterminismError(
        `harness ${this.harness.name} is not deterministic: the same schedule of ${depth} events ` +
          `${error === undefined ? "touched other things" : `failed (${error})`} the second time; ` +
          "look for state that `setup` does not build anew",
      );
    }
  }

  /** Hash of what a schedule touches, or why it cannot be played. */
  #fingerprintOf(schedule: Schedule): number | string {
    const replayer = new Replayer(schedule);
    try {
      this.#play(replayer);
    } catch (error) {
      return messageOf(error);
    }
    return replayer.fingerprint;
  }

  /** What came of it so far. */
  result(): SearchResult {
    const isCut = this.#tooDeep > 0 || this.machine.interrupts.wasCut;
    return {
      harness: this.harness.name,
      memoryModel: this.machine.memoryModel,
      executions: this.#executions,
      pruned: this.#pruned,
      tooDeep: this.#tooDeep,
      depthMax: this.#scheduler.depthMax,
      eventCount: this.#events,
      isComplete: this.isExhausted && this.#scheduler.isExhaustive && !isCut,
      isCut,
      violation: this.#violation,
      goalsReached: [...this.#goalsReached],
      goalsMissed: this.harness.goals.filter((goal) => !this.#goalsReached.has(goal)),
      seconds: (Date.now() - (this.#beganMs ?? Date.now())) / 1000,
    };
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
