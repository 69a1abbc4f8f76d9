/**
 * Plain depth-first enumeration of all schedules: no reduction, optionally with at most so many
 * preemptions (a process that could go on is left for another). It is what the reduction is
 * checked against, and what a preemption bound needs: with a bound, leaving out equivalent
 * executions would leave out others too, so none are.
 */

import type { ExploredMachine } from "#machine";
import type { SearchScheduler } from "./scheduler.js";

export class ExhaustiveScheduler implements SearchScheduler {
  readonly isExhaustive = true;
  readonly isPruned = false;
  readonly isSplit = false;
  isTooDeep = false;
  depthMax = 0;
  readonly #eventsMax: number;
  readonly #preemptionsMax: number;
  // By state: who goes, who is still to go, preemptions so far, and the choice made there.
  readonly #chosen: number[] = [];
  readonly #left: number[] = [];
  readonly #preemptions: number[] = [];
  readonly #pickOutcome: number[] = [];
  readonly #pickCount: number[] = [];
  #depth = 0;
  #known = 0;

  constructor(eventsMax: number, preemptionsMax = Number.POSITIVE_INFINITY) {
    this.#eventsMax = eventsMax;
    this.#preemptionsMax = preemptionsMax;
  }

  begin(): void {
    this.isTooDeep = false;
  }

  choose(machine: ExploredMachine, current: number): number {
    const state = machine.eventCount;
    if (state < this.#known) return this.#chosen[state];
    const enabled = machine.enabled();
    if (enabled === 0) return -1;
    if (state >= this.#eventsMax) {
      this.isTooDeep = true;
      return -1;
    }
    const goesOn = current >= 0 && ((enabled >>> current) & 1) === 1;
    const process = goesOn ? current : 31 - Math.clz32(enabled & -enabled);
    const before = state === 0 ? 0 : this.#preemptionsAfter(state - 1);
    const isBound = goesOn && before >= this.#preemptionsMax;
    this.#chosen[state] = process;
    this.#left[state] = isBound ? 0 : enabled & ~(1 << process);
    // A preemption is counted where somebody else than the one who could go on goes.
    this.#preemptions[state] = goesOn ? -1 - before : before;
    this.#pickCount[state] = 0;
    this.#depth = state + 1;
    return process;
  }

  performed(): void {}

  pick(machine: ExploredMachine, _process: number, count: number): number {
    const state = machine.eventCount;
    if (this.#pickCount[state] === 0) {
      this.#pickCount[state] = count;
      this.#pickOutcome[state] = 0;
    }
    return this.#pickOutcome[state];
  }

  probeWaiting(): void {}

  advance(): boolean {
    this.depthMax = Math.max(this.depthMax, this.#depth);
    for (; this.#depth > 0; this.#depth--) {
      const state = this.#depth - 1;
      this.#known = this.#depth;
      if (this.#pickCount[state] > 0 && ++this.#pickOutcome[state] < this.#pickCount[state]) {
        return true;
      }
      const left = this.#left[state];
      if (left === 0) continue;
      const process = 31 - Math.clz32(left & -left);
      this.#chosen[state] = process;
      this.#left[state] = left & ~(1 << process);
      this.#pickCount[state] = 0;
      // From the first alternative on, whoever goes here preempts the one who could go on.
      if (this.#preemptions[state] < 0) this.#preemptions[state] = -this.#preemptions[state];
      return true;
    }
    return false;
  }

  /** Preemptions up to and including the event from `state`. */
  #preemptionsAfter(state: number): number {
    const count = this.#preemptions[state];
    return count < 0 ? -1 - count : count;
  }
}
