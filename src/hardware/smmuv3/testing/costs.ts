/** Costs of a timed machine for tests of races. */

import type { MachineCosts } from "#machine";
import { genericArm, machineCosts } from "#platform";

/** A profile's costs, with reads of memory by devices taking `memoryReadNs`. */
export function costsWithDeviceReads(memoryReadNs: number): MachineCosts {
  const costs = machineCosts(genericArm);
  return { ...costs, device: { ...costs.device, memoryReadNs } };
}
