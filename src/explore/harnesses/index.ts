/** All harnesses, by name. */

import type { Harness } from "../harness.js";
import { commandQueueHarnesses } from "./command-queue.js";

export const HARNESSES: readonly Harness[] = [...commandQueueHarnesses];

export function findHarness(name: string): Harness | undefined {
  return HARNESSES.find((harness) => harness.name === name);
}
