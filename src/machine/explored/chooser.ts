/** What a searcher is to the explored machine: whoever decides what happens next. */

import type { ExploredMachine } from "./machine.js";

export interface Chooser {
  /**
   * The process that goes next, one of `machine.enabled()`; -1 leaves the execution where it is.
   * `current` is the process of the last event, -1 at first.
   */
  choose(machine: ExploredMachine, current: number): number;
  /** The event of `process` is over; what it touched is in `machine.footprint`. */
  performed(machine: ExploredMachine, process: number): void;
  /** The outcome, in [0, count), of a choice that an agent leaves to the search. */
  pick(machine: ExploredMachine, process: number, count: number): number;
}

/** Continues with who is at it, else takes the first; interrupts wait. For setting a system up. */
export const inTurn: Chooser = {
  choose(machine, current) {
    const enabled = machine.enabled() & ~machine.interruptProcesses;
    if (enabled === 0) return -1;
    if (current >= 0 && ((enabled >>> current) & 1) === 1) return current;
    return 31 - Math.clz32(enabled & -enabled);
  },
  performed() {},
  pick: () => 0,
};
