/**
 * Counts what is under way, so that somebody can wait for all that began before now: what a
 * CMD_SYNC waits for, and an endpoint before it answers an invalidation.
 *
 * Two generations: one drains while the other fills. Only one agent drains.
 */

import { type Agent, type Cell, loneCell, type Step } from "#machine";

/** Of something that is not under way. */
export const NOT_IN_FLIGHT = -1;

export class InFlight {
  readonly #counts: readonly [Cell, Cell];
  #generation = 0;

  constructor(name: string) {
    this.#counts = [loneCell(`${name}, even`), loneCell(`${name}, odd`)];
  }

  /** Something begins; the result is what `end` has to be given. */
  begin(agent: Agent): number {
    const generation = this.#generation;
    const count = this.#counts[generation];
    agent.poke(count, count.value + 1);
    return generation;
  }

  end(agent: Agent, generation: number): void {
    const count = this.#counts[generation];
    agent.poke(count, count.value - 1);
  }

  /** Waits until all that began before the call has ended; to be waited for at once. */
  drain(agent: Agent): Step<number> {
    const old = this.#counts[this.#generation];
    // The other generation is empty: the drain before this one waited for it.
    this.#generation = 1 - this.#generation;
    return agent.waitUntil(old, isZero);
  }
}

function isZero(value: number): boolean {
  return value === 0;
}
