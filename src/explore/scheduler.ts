/** What the search asks of a scheduler, which is what decides about each execution. */

import type { Chooser, ExploredMachine } from "#machine";

export interface SearchScheduler extends Chooser {
  /** Having nothing left means that everything within its bounds was explored. */
  readonly isExhaustive: boolean;
  /** The execution was left because it repeats what others show. */
  readonly isPruned: boolean;
  /** The execution was left for others to go on from. */
  readonly isSplit: boolean;
  /** The execution was left because it got too long. */
  readonly isTooDeep: boolean;
  /** Events of the longest execution. */
  readonly depthMax: number;
  /** An execution begins. */
  begin(): void;
  /** The execution has ended, or was left as pruned; looks at those who wait. */
  probeWaiting(machine: ExploredMachine): void;
  /** Prepares the next execution; false when all is explored. */
  advance(): boolean;
}
