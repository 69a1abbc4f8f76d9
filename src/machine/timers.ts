/** Pending timers of a machine, by virtual time; ties go to the one armed first. */

import type { Interrupt } from "./agent.js";

interface PendingTimer {
  readonly interrupt: Interrupt;
  readonly atNs: number;
}

export class TimerQueue {
  /** Sorted by time, then by arming: few timers are pending at once (one per domain or device). */
  readonly #pending: PendingTimer[] = [];

  /** Time of the earliest timer, infinity when there is none. */
  get nextNs(): number {
    const first = this.#pending[0];
    return first === undefined ? Number.POSITIVE_INFINITY : first.atNs;
  }

  arm(interrupt: Interrupt, atNs: number): void {
    this.cancel(interrupt);
    let index = this.#pending.length;
    while (index > 0 && this.#pending[index - 1].atNs > atNs) index--;
    this.#pending.splice(index, 0, { interrupt, atNs });
  }

  cancel(interrupt: Interrupt): boolean {
    const index = this.#pending.findIndex((timer) => timer.interrupt === interrupt);
    if (index < 0) return false;
    this.#pending.splice(index, 1);
    return true;
  }

  /** Removes and returns the earliest timer if it is due at `nowNs`. */
  popDue(nowNs: number): Interrupt | undefined {
    if (this.nextNs > nowNs) return undefined;
    return this.#pending.shift()?.interrupt;
  }
}
