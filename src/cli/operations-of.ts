/**
 * The operations of a capture for commands that keep something for each live mapping, as the
 * join does itself: bounded, for a capture without unmap events has no end of them.
 */

import { type Capture, type DmaOperation, joinOperations, newOperationStatistics } from "#capture";
import { UsageError } from "./errors.js";

/**
 * Mappings live at a time, of some 700 bytes each. 128 queues of 4096 buffers that stay mapped
 * are half of it.
 */
const LIVE_MAX = 2 ** 20;

export function* operationsOf(
  capture: Pick<Capture, "events" | "header">,
): Generator<DmaOperation, void, undefined> {
  const statistics = newOperationStatistics();
  for (const operation of joinOperations(capture.events(), statistics)) {
    if (statistics.live > LIVE_MAX) {
      throw new UsageError(
        `${capture.header.file}: at ${(operation.timeNs / 1e9).toFixed(9)} s more than ${LIVE_MAX} ` +
          "mappings are live, so their unmaps are missing; record with -e dma -e iommu, all of " +
          "their events",
      );
    }
    yield operation;
  }
}
