/** All harnesses, by name. */

import type { Harness } from "../harness.js";
import { commandQueueHarnesses } from "./command-queue.js";
import { entryHarnesses } from "./entry-update.js";
import { invalidationHarnesses } from "./invalidation-array.js";
import { rcuHarnesses } from "./rcu.js";

export const HARNESSES: readonly Harness[] = [
  ...commandQueueHarnesses,
  ...entryHarnesses,
  ...invalidationHarnesses,
  ...rcuHarnesses,
];

export function findHarness(name: string): Harness | undefined {
  return HARNESSES.find((harness) => harness.name === name);
}
