/**
 * Small numbers of the DMA API, with the kernel's values (include/linux/dma-direction.h and
 * dma-mapping.h), so that those in a trace can be passed on as they are.
 */

/** What a map returns when it failed. No address: the kernel's is all ones in 64 bits. */
export const DMA_MAPPING_ERROR = -1;

export const Direction = {
  bidirectional: 0,
  toDevice: 1,
  fromDevice: 2,
} as const;

export type DirectionCode = (typeof Direction)[keyof typeof Direction];

/** Bits of the `attributes` of a call. */
export const Attribute = {
  weakOrdering: 1 << 1,
  writeCombine: 1 << 2,
  noKernelMapping: 1 << 4,
  /** No cache maintenance: the caller does it with the sync calls. */
  skipCpuSync: 1 << 5,
  forceContiguous: 1 << 6,
  allocateSinglePages: 1 << 7,
  noWarn: 1 << 8,
  /** Reachable by privileged requests of the device only. */
  privileged: 1 << 9,
} as const;
