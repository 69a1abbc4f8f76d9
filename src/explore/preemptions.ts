/**
 * Counting preemptions, state by state: an agent that could go on is left for another agent
 * (Musuvathi and Qadeer, "Iterative context bounding for systematic testing of multithreaded
 * programs", PLDI 2007).
 *
 * A store that becomes visible is nobody's turn, and neither is an interrupt that is taken: both
 * cost nothing, and whoever was at it is still at it afterwards. So every schedule under `sc` has
 * one under the weaker models with as many preemptions.
 */

import { type ExploredMachine, ProcessKind } from "#machine";

export class Preemptions {
  readonly #max: number;
  /** By state: the agent that went last, -1 before the first; and the preemptions up to there. */
  readonly running: Int32Array;
  readonly count: Int32Array;
  /** Bits of the processes that are agents. */
  #agents = 0;
  #processCount = 0;

  constructor(max: number, eventsMax: number) {
    this.#max = max;
    this.running = new Int32Array(eventsMax + 1);
    this.count = new Int32Array(eventsMax + 1);
    this.running[0] = -1;
  }

  /** Bits of the processes that are agents of the machine. */
  agentsOf({ processes: { list } }: ExploredMachine): number {
    for (; this.#processCount < list.length; this.#processCount++) {
      if (list[this.#processCount].kind === ProcessKind.agent)
        this.#agents |= 1 << this.#processCount;
    }
    return this.#agents;
  }

  /** Those of the enabled processes that may go within the bound. */
  allowed(machine: ExploredMachine, state: number, enabled: number): number {
    const running = this.#goingOn(state, enabled);
    if (running === 0 || this.count[state] < this.#max) return enabled;
    return (enabled & ~this.agentsOf(machine)) | running;
  }

  /** `process` goes in that state: what holds in the next one. */
  pass(machine: ExploredMachine, state: number, enabled: number, process: number): void {
    const bit = 1 << process;
    const isAgent = (this.agentsOf(machine) & bit) !== 0;
    const running = this.#goingOn(state, enabled);
    this.running[state + 1] = isAgent ? process : this.running[state];
    this.count[state + 1] = this.count[state] + (isAgent && (running & ~bit) !== 0 ? 1 : 0);
  }

  /** The bit of the agent that went last, if it can go on. */
  #goingOn(state: number, enabled: number): number {
    const running = this.running[state];
    return running < 0 ? 0 : enabled & (1 << running);
  }
}
