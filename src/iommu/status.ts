/**
 * How a map ended, as one number: 0, or a negative code with the kernel's errno value,
 * so that the hot path neither throws nor allocates.
 */

import { assertNever } from "#machine";
import type { MapFailure } from "#pagetable";

export const MapStatus = {
  mapped: 0,
  /** Something is mapped there already (EEXIST). */
  exists: -17,
  /** No memory for a table (ENOMEM). */
  noMemory: -12,
  /** Addresses or size are not multiples of the smallest page, or the size is 0 (EINVAL). */
  invalid: -22,
  /** Outside of what the table can translate or put out (ERANGE). */
  outOfRange: -34,
} as const;

export type MapStatusCode = (typeof MapStatus)[keyof typeof MapStatus];

/** The code of a page table's own reason. */
export function statusOf(failure: MapFailure): MapStatusCode {
  switch (failure) {
    case "exists":
      return MapStatus.exists;
    case "no memory":
      return MapStatus.noMemory;
    case "unsupported size":
      return MapStatus.invalid;
    case "out of range":
      return MapStatus.outOfRange;
    default:
      return assertNever(failure, "every failure of a map has a status");
  }
}
