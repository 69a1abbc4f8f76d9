/**
 * Which mappings need a bounce buffer (kernel: dev_use_swiotlb()). There are none here
 * yet: such a mapping fails with `DMA_MAPPING_ERROR`, as in a kernel without swiotlb.
 */

import { Direction, type DirectionCode } from "./constants.js";
import type { DmaDevice } from "./dma-device.js";

/** Buffers from here on come from kmalloc with their own lines (2 × ARCH_DMA_MINALIGN of arm64). */
const ALIGNED_KMALLOC_BYTES = 256;
/** Sizes of kmalloc below that. */
const KMALLOC_BUCKETS = [8, 16, 32, 64, 96, 128, 192, 256] as const;

/** Whether a buffer of this size must not be mapped as it is, unless it consists of whole pages. */
export function needsBounce(
  device: DmaDevice,
  sizeBytes: number,
  direction: DirectionCode,
): boolean {
  if (device.untrusted) return true;
  if (device.coherent || direction === Direction.toDevice) return false;
  return sharesCacheLine(sizeBytes, device.cacheAlignmentBytes);
}

/** Whether kmalloc may have put something else into the last cache line of such a buffer. */
function sharesCacheLine(sizeBytes: number, alignmentBytes: number): boolean {
  if (sizeBytes >= ALIGNED_KMALLOC_BYTES) return false;
  const bucketBytes = KMALLOC_BUCKETS.find((bytes) => bytes >= sizeBytes) as number;
  return bucketBytes % alignmentBytes !== 0;
}
