/** All harnesses, by name. */

import type { Harness } from "../harness.js";
import { attachPathHarnesses } from "./attach-path.js";
import { commandErrorHarnesses } from "./command-errors.js";
import { commandQueueHarnesses } from "./command-queue.js";
import { entryHarnesses } from "./entry-update.js";
import { flushQueueHarnesses } from "./flush-queue.js";
import { invalidationHarnesses } from "./invalidation-array.js";
import { lazyModeHarnesses } from "./lazy-mode.js";
import { magazineHarnesses } from "./magazines.js";
import { pageFaultReuseHarness } from "./page-fault-reuse.js";
import { pageFaultHarnesses } from "./page-faults.js";
import { pageTableHarnesses } from "./page-table.js";
import { rcuHarnesses } from "./rcu.js";
import { spinlockQueueHarnesses } from "./spinlock-queue.js";

export const HARNESSES: readonly Harness[] = [
  ...attachPathHarnesses,
  ...commandErrorHarnesses,
  ...commandQueueHarnesses,
  ...entryHarnesses,
  ...flushQueueHarnesses,
  ...invalidationHarnesses,
  ...lazyModeHarnesses,
  ...magazineHarnesses,
  ...pageFaultHarnesses,
  pageFaultReuseHarness,
  ...pageTableHarnesses,
  ...rcuHarnesses,
  ...spinlockQueueHarnesses,
];

export function findHarness(name: string): Harness | undefined {
  return HARNESSES.find((harness) => harness.name === name);
}
