/**
 * Random walks with priorities (PCT: Burckhardt, Kothari, Musuvathi, Nagarakatte, "A randomized
 * scheduler with probabilistic guarantees of finding bugs", ASPLOS 2010): every process has a
 * random priority and the highest one that can go goes; at a few random steps whoever would go
 * falls behind all others. For harnesses that are too large to be explored; it never says that
 * all was explored.
 */

import { type ExploredMachine, PROCESSES_MAX, Random } from "#machine";
import type { SearchScheduler } from "./scheduler.js";

/** Steps at which a priority falls: bugs that need at most one more ordering are found well. */
const CHANGES = 3;
/** Length that the first execution is taken to have; then the longest one so far counts. */
const DEPTH_GUESS = 50;

export class RandomWalkScheduler implements SearchScheduler {
  readonly isExhaustive = false;
  readonly isPruned = false;
  readonly isSplit = false;
  isTooDeep = false;
  depthMax = 0;
  readonly #random: Random;
  readonly #eventsMax: number;
  readonly #priorities = new Float64Array(PROCESSES_MAX);
  readonly #changes: number[] = [];
  #lowest = 0;

  constructor(seed: number, eventsMax: number) {
    this.#random = new Random(seed);
    this.#eventsMax = eventsMax;
  }

  begin(): void {
    this.isTooDeep = false;
    for (let process = 0; process < PROCESSES_MAX; process++) {
      this.#priorities[process] = this.#random.next();
    }
    const depth = Math.max(DEPTH_GUESS, this.depthMax);
    for (let change = 0; change < CHANGES; change++) {
      this.#changes[change] = Math.floor(this.#random.next() * depth);
    }
    this.#lowest = 0;
  }

  choose(machine: ExploredMachine): number {
    const enabled = machine.enabled();
    if (enabled === 0) return -1;
    if (machine.eventCount >= this.#eventsMax) {
      this.isTooDeep = true;
      return -1;
    }
    const process = this.#highest(enabled);
    if (!this.#changes.includes(machine.eventCount)) return process;
    this.#priorities[process] = --this.#lowest;
    return this.#highest(enabled);
  }

  performed(machine: ExploredMachine): void {
    this.depthMax = Math.max(this.depthMax, machine.eventCount + 1);
  }

  pick(_machine: ExploredMachine, _process: number, count: number): number {
    return Math.floor(this.#random.next() * count);
  }

  probeWaiting(): void {}

  advance(): boolean {
    return true;
  }

  #highest(enabled: number): number {
    let best = -1;
    for (let left = enabled; left !== 0; left &= left - 1) {
      const process = 31 - Math.clz32(left & -left);
      if (best < 0 || this.#priorities[process] > this.#priorities[best]) best = process;
    }
    return best;
  }
}
