/**
 * Following a schedule loosely: who cannot go where the schedule says so is passed over, and at
 * its end, or without one, everybody goes in turn. That is what shrinking needs, and a plain run.
 *
 * "In turn": who is at it goes on until it cannot; then comes the next process by number. What
 * differs from that is a deviation.
 */

import type { Chooser, ExploredMachine } from "#machine";

export class FollowingChooser implements Chooser {
  /** Steps that were not those of going in turn. */
  deviations = 0;
  readonly #steps: readonly number[];
  readonly #picks: readonly number[];
  readonly #eventsMax: number;
  #at = 0;
  #picked = 0;

  constructor(steps: readonly number[], picks: readonly number[], eventsMax: number) {
    this.#steps = steps;
    this.#picks = picks;
    this.#eventsMax = eventsMax;
  }

  choose(machine: ExploredMachine, current: number): number {
    if (machine.eventCount >= this.#eventsMax) return -1;
    const enabled = machine.enabled();
    if (enabled === 0) return -1;
    const usual = inTurn(enabled, current);
    while (this.#at < this.#steps.length) {
      const process = this.#steps[this.#at++];
      if (((enabled >>> process) & 1) === 0) continue;
      if (process !== usual) this.deviations++;
      return process;
    }
    return usual;
  }

  performed(): void {}

  pick(_machine: ExploredMachine, _process: number, count: number): number {
    return Math.min(this.#picks[this.#picked++] ?? 0, count - 1);
  }
}

function inTurn(enabled: number, current: number): number {
  if (current >= 0 && ((enabled >>> current) & 1) === 1) return current;
  const later = enabled & ~((2 << current) - 1);
  const from = current >= 0 && later !== 0 ? later : enabled;
  return 31 - Math.clz32(from & -from);
}
