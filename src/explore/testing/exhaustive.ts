/**
 * Plain depth-first enumeration of all schedules: no reduction, optionally with at most so many
 * preemptions. It is what the searches that leave something out are checked against.
 */

import type { ExploredMachine } from "#machine";
import { Preemptions } from "../preemptions.js";
import type { SearchScheduler } from "../scheduler.js";

export class ExhaustiveScheduler implements SearchScheduler {
  readonly isExhaustive = true;
  readonly isPruned = false;
  readonly isSplit = false;
  isTooDeep = false;
  depthMax = 0;
  readonly #eventsMax: number;
  readonly #preemptions: Preemptions;
  // By state: who can go, who goes, who is still to go, and the choice made there.
  readonly #enabled: number[] = [];
  readonly #chosen: number[] = [];
  readonly #left: number[] = [];
  readonly #pickOutcome: number[] = [];
  readonly #pickCount: number[] = [];
  #depth = 0;
  #known = 0;

  constructor(eventsMax: number, preemptionsMax = Number.POSITIVE_INFINITY) {
    this.#eventsMax = eventsMax;
    this.#preemptions = new Preemptions(preemptionsMax, eventsMax);
  }

  begin(): void {
    this.isTooDeep = false;
  }

  choose(machine: ExploredMachine): number {
    const state = machine.eventCount;
    if (state >= this.#known) {
      const enabled = machine.enabled();
      if (enabled === 0) return -1;
      if (state >= this.#eventsMax) {
        this.isTooDeep = true;
        return -1;
      }
      this.#enabled[state] = enabled;
      this.#left[state] = this.#preemptions.allowed(machine, state, enabled);
      this.#take(state);
      this.#depth = state + 1;
    }
    const process = this.#chosen[state];
    this.#preemptions.pass(machine, state, this.#enabled[state], process);
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
      if (this.#left[state] === 0) continue;
      this.#take(state);
      return true;
    }
    return false;
  }

  #take(state: number): void {
    const left = this.#left[state];
    this.#chosen[state] = 31 - Math.clz32(left & -left);
    this.#left[state] = left & (left - 1);
    this.#pickCount[state] = 0;
  }
}
