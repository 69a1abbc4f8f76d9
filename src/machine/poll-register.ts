/** Polling a register: looking at it until it says what is wanted, or until the time is up. */

import type { Agent, CellTest } from "./agent.js";
import type { Cell } from "./cell.js";
import type { Routine, Step } from "./routine.js";
import type { PhysicalAddress } from "./units.js";

/** What passes between two looks. */
export interface PollPauses {
  /** No look begins later than the first one after this time. */
  readonly lastNs: number;
  /** Nanoseconds from a look that ended at `nowNs` to the next; negative when there is none. */
  next(nowNs: number): number;
  /**
   * Ends a pause, and the one before the first look, early: a wire that changes with each event
   * of the kind that `wfe` waits for. Without it a pause is as long as `next` says, and the first
   * look is made at once.
   */
  readonly event?: Cell | undefined;
}

/**
 * Reads the register at once, and again after each pause, until `test` holds. Returns what it
 * read last: the caller tests that, for the time may have been up.
 */
export function pollRegister32(
  agent: Agent,
  address: PhysicalAddress,
  test: CellTest,
  pauses: PollPauses,
): Step<number> {
  return agent.pollRegister32?.(address, test, pauses) ?? look(agent, address, test, pauses);
}

function* look(
  agent: Agent,
  address: PhysicalAddress,
  test: CellTest,
  pauses: PollPauses,
): Routine<number> {
  for (;;) {
    const value = yield* agent.readRegister32(address);
    if (test(value)) return value;
    const pauseNs = pauses.next(agent.now());
    if (pauseNs < 0) return value;
    yield* agent.delay(pauseNs);
  }
}
