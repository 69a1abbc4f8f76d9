/** All mutants, by name. */

import { attachPathMutants } from "./attach-path.js";
import { commandErrorMutants } from "./command-errors.js";
import { commandQueueMutants } from "./command-queue.js";
import { entryMutants } from "./entry-update.js";
import { flushQueueMutants } from "./flush-queue.js";
import { invalidationMutants } from "./invalidation-array.js";
import { lazyModeMutants } from "./lazy-mode.js";
import { magazineMutants } from "./magazines.js";
import type { Mutant } from "./mutant.js";
import { pageFaultMutants } from "./page-faults.js";
import { pageTableMutants } from "./page-table.js";
import { spinlockQueueMutants } from "./spinlock-queue.js";

export const MUTANTS: readonly Mutant[] = [
  ...attachPathMutants,
  ...commandErrorMutants,
  ...commandQueueMutants,
  ...entryMutants,
  ...flushQueueMutants,
  ...invalidationMutants,
  ...lazyModeMutants,
  ...pageFaultMutants,
  ...magazineMutants,
  ...pageTableMutants,
  ...spinlockQueueMutants,
];

export function findMutant(name: string): Mutant | undefined {
  return MUTANTS.find((mutant) => mutant.name === name);
}
