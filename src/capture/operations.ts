/**
 * The DMA operations of a capture: each map and unmap once, whether `dma:*` events, `iommu:*`
 * events or both tell of it. Owns nothing; the join does.
 */

import type { CaptureEvent, DmaDirection } from "./events.js";
import { OperationJoin } from "./join/join.js";
import type { MappingShape } from "./join/mappings.js";

export type { MappingShape } from "./join/mappings.js";

/** Physically contiguous memory. */
export interface Segment {
  readonly paddr: number;
  readonly lengthBytes: number;
}

interface OperationBase {
  readonly timeNs: number;
  readonly cpu: number;
  readonly pid: number;
  readonly task: string;
  /** "" where only an iommu event tells of the operation: it names no device. */
  readonly device: string;
  readonly shape: MappingShape;
}

export interface MapOperation extends OperationBase {
  readonly kind: "map";
  /** Counts from 0 in the order of the operations' completion. */
  readonly id: number;
  readonly segments: readonly Segment[];
  readonly sizeBytes: number;
  readonly direction: DmaDirection;
  readonly attrs: number;
  /** What the device uses: of the first segment. For shape `iommu` the IOVA. */
  readonly dmaAddress: number;
  /** Where the IOMMU's mapping begins; undefined without iommu events. */
  readonly iova: number | undefined;
  /** Calls of iommu_map that it took, 0 without iommu events. */
  readonly iommuMaps: number;
  /** Bytes that went through a bounce buffer (swiotlb). */
  readonly bouncedBytes: number;
  readonly lengthsEstimated: boolean;
  readonly truncated: boolean;
}

export interface UnmapOperation extends OperationBase {
  readonly kind: "unmap";
  /** That of the map; undefined if the map lies before the capture or its event was lost. */
  readonly id: number | undefined;
  /** Undefined for a scatterlist whose map is not known. */
  readonly dmaAddress: number | undefined;
  /** 0 where it is not known. */
  readonly sizeBytes: number;
}

export type DmaOperation = MapOperation | UnmapOperation;

/** What was joined, complete once the operations are exhausted. */
export interface OperationStatistics {
  maps: number;
  unmaps: number;
  /** Unmaps of something that was mapped before the capture, or whose map was lost. */
  unmapsOfUnknown: number;
  /** Mappings that were live at the same time, at most and at the end. */
  liveMax: number;
  live: number;
}

export function newOperationStatistics(): OperationStatistics {
  return { maps: 0, unmaps: 0, unmapsOfUnknown: 0, liveMax: 0, live: 0 };
}

/**
 * The operations in the order of time, a little behind the events. Marks are not among them: cut
 * by the times of the marks.
 */
export function* joinOperations(
  events: Iterable<CaptureEvent>,
  statistics: OperationStatistics = newOperationStatistics(),
): Generator<DmaOperation, void, undefined> {
  const join = new OperationJoin(statistics);
  for (const event of events) {
    join.take(event);
    for (let out = join.give(event.timeNs); out !== undefined; out = join.give(event.timeNs)) {
      yield out;
    }
  }
  for (let out = join.give(Infinity); out !== undefined; out = join.give(Infinity)) yield out;
}
