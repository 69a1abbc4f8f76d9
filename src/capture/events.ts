/**
 * The events of a capture that mean something to DMA mapping, the same whichever format they
 * came in. The makers here are shared by the binary and the text decoders, so that one event has
 * one shape and one meaning. Owns nothing.
 *
 * The fields are those of include/trace/events/{dma,iommu,swiotlb}.h. Addresses are numbers;
 * what a damaged file holds above 2^53 is rounded.
 */

export type DmaDirection = "bidirectional" | "to_device" | "from_device" | "none";

/** Indexed by `enum dma_data_direction`. */
export const DIRECTIONS: readonly DmaDirection[] = [
  "bidirectional",
  "to_device",
  "from_device",
  "none",
];

/** What every event has. `timeNs` is in the unit that `CaptureHeader.timeUnit` names. */
export interface EventBase {
  readonly timeNs: number;
  readonly cpu: number;
  readonly pid: number;
  /** Name of the task, "" where the capture does not know it. */
  readonly task: string;
}

export interface IommuMap extends EventBase {
  readonly kind: "iommu_map";
  readonly iova: number;
  readonly paddr: number;
  readonly sizeBytes: number;
}

export interface IommuUnmap extends EventBase {
  readonly kind: "iommu_unmap";
  readonly iova: number;
  readonly sizeBytes: number;
  readonly unmappedBytes: number;
}

export type MapVia = "page" | "phys" | "resource";

export interface DmaMap extends EventBase {
  readonly kind: "dma_map";
  readonly via: MapVia;
  readonly device: string;
  readonly paddr: number;
  readonly dmaAddress: number;
  readonly sizeBytes: number;
  readonly direction: DmaDirection;
  readonly attrs: number;
}

export interface DmaUnmap extends EventBase {
  readonly kind: "dma_unmap";
  readonly via: MapVia;
  readonly device: string;
  readonly dmaAddress: number;
  readonly sizeBytes: number;
  readonly direction: DmaDirection;
  readonly attrs: number;
}

export interface DmaMapSg extends EventBase {
  readonly kind: "dma_map_sg";
  readonly device: string;
  readonly direction: DmaDirection;
  readonly attrs: number;
  /** One for each scatterlist entry, at most 128 (DMA_TRACE_MAX_ENTRIES). */
  readonly paddrs: readonly number[];
  /** One for each DMA segment after merging, at most 128. */
  readonly dmaAddresses: readonly number[];
  readonly lengths: readonly number[];
  readonly fullNents: number;
  readonly fullEnts: number;
  readonly truncated: boolean;
}

export interface DmaUnmapSg extends EventBase {
  readonly kind: "dma_unmap_sg";
  readonly device: string;
  readonly direction: DmaDirection;
  readonly attrs: number;
  readonly paddrs: readonly number[];
}

export type AllocVia = "alloc" | "pages" | "sgt";

export interface DmaAlloc extends EventBase {
  readonly kind: "dma_alloc";
  readonly via: AllocVia;
  readonly device: string;
  readonly dmaAddress: number;
  readonly sizeBytes: number;
  readonly direction: DmaDirection;
  readonly attrs: number;
  /** Known for `sgt` only. */
  readonly paddrs: readonly number[];
}

export interface DmaFree extends EventBase {
  readonly kind: "dma_free";
  readonly via: AllocVia;
  readonly device: string;
  readonly dmaAddress: number;
  readonly sizeBytes: number;
  readonly direction: DmaDirection;
}

export type SyncFor = "cpu" | "device";

export interface DmaSync extends EventBase {
  readonly kind: "dma_sync";
  readonly syncFor: SyncFor;
  readonly device: string;
  readonly dmaAddress: number;
  readonly sizeBytes: number;
  readonly direction: DmaDirection;
}

export interface DmaSyncSg extends EventBase {
  readonly kind: "dma_sync_sg";
  readonly syncFor: SyncFor;
  readonly device: string;
  readonly dmaAddresses: readonly number[];
  readonly lengths: readonly number[];
  readonly direction: DmaDirection;
}

/** A call of the DMA API that failed. */
export interface DmaError extends EventBase {
  readonly kind: "dma_error";
  readonly operation: "map" | "map_sg" | "alloc" | "alloc_pages" | "alloc_sgt";
  readonly device: string;
  /** Negative errno where the event holds one (map_sg). */
  readonly error: number | undefined;
  readonly sizeBytes: number;
  readonly direction: DmaDirection;
  readonly attrs: number;
  readonly paddrs: readonly number[];
}

export interface SwiotlbBounced extends EventBase {
  readonly kind: "swiotlb_bounced";
  readonly device: string;
  readonly dmaMask: number;
  /** Address of the original buffer as the device would have seen it. */
  readonly address: number;
  readonly sizeBytes: number;
  readonly forced: boolean;
}

/** What somebody wrote into `trace_marker`, less a newline at its end. */
export interface Mark extends EventBase {
  readonly kind: "mark";
  readonly text: string;
}

export type CaptureEvent =
  | IommuMap
  | IommuUnmap
  | DmaMap
  | DmaUnmap
  | DmaMapSg
  | DmaUnmapSg
  | DmaAlloc
  | DmaFree
  | DmaSync
  | DmaSyncSg
  | DmaError
  | SwiotlbBounced
  | Mark;

/** DMA_MAPPING_ERROR is ~0 of dma_addr_t, 64 or 32 bits wide; as a double 2^64 or 2^32 - 1. */
function isMappingError(dmaAddress: number): boolean {
  return dmaAddress >= 2 ** 64 - 2 ** 11 || dmaAddress === 0xffff_ffff;
}

/** Where an event happened: what the decoders know before they look at its own fields. */
export interface Place {
  timeNs: number;
  cpu: number;
  pid: number;
  task: string;
}

/** A map that failed is traced as a map to DMA_MAPPING_ERROR. */
export function makeMap(
  at: Place,
  via: MapVia,
  device: string,
  paddr: number,
  dmaAddress: number,
  sizeBytes: number,
  direction: DmaDirection,
  attrs: number,
): DmaMap | DmaError {
  const { timeNs, cpu, pid, task } = at;
  if (isMappingError(dmaAddress)) {
    return makeError(at, "map", device, undefined, sizeBytes, direction, attrs, [paddr]);
  }
  return {
    kind: "dma_map",
    timeNs,
    cpu,
    pid,
    task,
    via,
    device,
    paddr,
    dmaAddress,
    sizeBytes,
    direction,
    attrs,
  };
}

/** An allocation that failed is traced with a null virtual address. */
export function makeAlloc(
  at: Place,
  via: AllocVia,
  device: string,
  virtualIsNull: boolean,
  dmaAddress: number,
  sizeBytes: number,
  direction: DmaDirection,
  attrs: number,
  paddrs: readonly number[],
): DmaAlloc | DmaError {
  const { timeNs, cpu, pid, task } = at;
  if (virtualIsNull) {
    const operation = via === "alloc" ? "alloc" : `alloc_${via}`;
    return makeError(
      at,
      operation as DmaError["operation"],
      device,
      undefined,
      sizeBytes,
      direction,
      attrs,
      paddrs,
    );
  }
  return {
    kind: "dma_alloc",
    timeNs,
    cpu,
    pid,
    task,
    via,
    device,
    dmaAddress,
    sizeBytes,
    direction,
    attrs,
    paddrs,
  };
}

export function makeError(
  at: Place,
  operation: DmaError["operation"],
  device: string,
  error: number | undefined,
  sizeBytes: number,
  direction: DmaDirection,
  attrs: number,
  paddrs: readonly number[],
): DmaError {
  const { timeNs, cpu, pid, task } = at;
  return {
    kind: "dma_error",
    timeNs,
    cpu,
    pid,
    task,
    operation,
    device,
    error,
    sizeBytes,
    direction,
    attrs,
    paddrs,
  };
}
