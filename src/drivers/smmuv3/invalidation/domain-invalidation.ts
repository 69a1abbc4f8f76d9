/** How a domain knows what to invalidate: what its schemes, array and list, have in common. */

import type { Cpu, Iova, Routine } from "#machine";
import type { InvalidationList } from "./invalidation.js";

/** Coming is in two steps: `prepare` may fail, `publish` may not. Going cannot fail. */
export interface DomainInvalidation {
  /** Invalidates a range, or everything for a size of 0, and waits (as `appendInvalidation`). */
  invalidate(cpu: Cpu, iova: Iova, sizeBytes: number, granuleBytes: number, leaf: 0 | 1): Routine;
  /** Whether there is memory for the list to come; called with the attach lock held. */
  prepare(cpu: Cpu, list: InvalidationList): Routine<boolean>;
  /** From here on page-table changes invalidate the prepared list, too. */
  publish(cpu: Cpu, list: InvalidationList): Routine;
  /**
   * The list's master has left: its entries in the hardware point elsewhere. When this returns
   * nothing more is sent to its devices, and a tag that nobody uses is clean.
   */
  remove(cpu: Cpu, list: InvalidationList): Routine;
  /** No device is attached any more. */
  destroy(cpu: Cpu): Routine;
}
