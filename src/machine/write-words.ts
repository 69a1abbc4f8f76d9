/** Writing some 64-bit words one after the other, such as the commands of a list. */

import type { Agent } from "./agent.js";
import type { Routine, Step } from "./routine.js";
import type { PhysicalAddress } from "./units.js";

/**
 * `count` accesses as by `write64`, or none, to addresses that follow each other. The words
 * are pairs of halves, low one first, in `halves` from index `first` on; they are read as they
 * are written.
 */
export function writeWords(
  agent: Agent,
  address: PhysicalAddress,
  halves: Uint32Array,
  first: number,
  count: number,
): Step<void> {
  const step = count > 0 ? agent.writeWords?.(address, halves, first, count) : undefined;
  return step ?? writeEach(agent, address, halves, first, count);
}

function* writeEach(
  agent: Agent,
  address: PhysicalAddress,
  halves: Uint32Array,
  first: number,
  count: number,
): Routine {
  for (let n = 0; n < count; n++) {
    const at = first + 2 * n;
    yield* agent.write64(address + 8 * n, halves[at], halves[at + 1]);
  }
}
