/**
 * Scatter lists: memory in pieces that a device is to see as few segments (kernel: struct
 * scatterlist, and the preparation and finalisation in iommu_dma_map_sg()).
 *
 * A list belongs to the driver. Between map and unmap the first segments of it say where
 * the device finds the data; an element's own place in memory is as the driver left it.
 */

import { assert, type PhysicalAddress } from "#machine";

export interface ScatterElement {
  /** Where the piece lies; changed and restored while a map is under way. */
  paddr: PhysicalAddress;
  sizeBytes: number;
  /** Output: the n-th segment as the device sees it; a length of 0 ends the segments. */
  dmaAddress: number;
  dmaBytes: number;
}

export interface ScatterList {
  readonly elements: readonly ScatterElement[];
  /** Each element was mapped by itself, as for lists in which something may need bouncing. */
  mappedSingly: boolean;
}

/** What no segment has: the kernel's DMA_MAPPING_ERROR in an unused field. */
const NO_ADDRESS = -1;

/** A list of the given pieces, not mapped. */
export function scatterList(
  pieces: readonly { readonly paddr: PhysicalAddress; readonly sizeBytes: number }[],
): ScatterList {
  assert(pieces.length > 0, "a scatter list has elements");
  const elements = pieces.map(({ paddr, sizeBytes }) => {
    assert(sizeBytes > 0, "an element of a scatter list has a size");
    return { paddr, sizeBytes, dmaAddress: NO_ADDRESS, dmaBytes: 0 };
  });
  return { elements, mappedSingly: false };
}

/**
 * Widens each element to whole granules and keeps what that hid in its output fields (offset
 * in the granule, length). Where an element would cross a segment boundary the one before
 * it is lengthened up to the boundary: the whole list gets addresses that are aligned to its
 * size, so boundaries are known before the address is. Returns the bytes to map.
 *
 * Lengthening maps memory behind an element that nobody asked for; the kernel accepts that.
 */
export function prepare(
  elements: readonly ScatterElement[],
  granuleBytes: number,
  boundaryBytes: number,
): number {
  let totalBytes = 0;
  let previous: ScatterElement | undefined;
  for (const element of elements) {
    const offset = element.paddr & (granuleBytes - 1);
    const paddedBytes = alignUp(offset + element.sizeBytes, granuleBytes);
    element.dmaAddress = offset;
    element.dmaBytes = element.sizeBytes;
    element.paddr -= offset;
    element.sizeBytes = paddedBytes;
    const used = totalBytes % boundaryBytes;
    const padBytes = used === 0 ? 0 : boundaryBytes - used;
    if (padBytes !== 0 && padBytes < paddedBytes) {
      assert(previous !== undefined, "there is no padding before the first element");
      previous.sizeBytes += padBytes;
      totalBytes += padBytes;
    }
    totalBytes += paddedBytes;
    previous = element;
  }
  return totalBytes;
}

/** Takes `prepare` back after a failure. */
export function restore(elements: readonly ScatterElement[]): void {
  for (const element of elements) {
    element.paddr += element.dmaAddress;
    element.sizeBytes = element.dmaBytes;
    element.dmaAddress = NO_ADDRESS;
    element.dmaBytes = 0;
  }
}

/**
 * Restores the elements of a list that is mapped at `iova`, and writes its segments to their
 * output fields: an element joins the segment before it when the device sees both without a
 * gap, no boundary lies between them and the segment does not get too long. Returns the number
 * of segments.
 */
export function finalise(
  elements: readonly ScatterElement[],
  iova: number,
  boundaryBytes: number,
  maxSegmentBytes: number,
): number {
  let segments = 0;
  let at = iova;
  /** Length of the segment that may grow, 0 when there is none. */
  let openBytes = 0;
  for (const element of elements) {
    const offset = element.dmaAddress;
    const dataBytes = element.dmaBytes;
    const paddedBytes = element.sizeBytes;
    element.dmaAddress = NO_ADDRESS;
    element.dmaBytes = 0;
    element.paddr += offset;
    element.sizeBytes = dataBytes;
    const joins =
      openBytes > 0 &&
      offset === 0 &&
      at % boundaryBytes !== 0 &&
      maxSegmentBytes - openBytes >= dataBytes;
    if (joins) openBytes += dataBytes;
    else {
      openBytes = dataBytes;
      elements[segments].dmaAddress = at + offset;
      segments++;
    }
    elements[segments - 1].dmaBytes = openBytes;
    at += paddedBytes;
    // Data that ends before its granule does leaves a gap.
    if (offset + dataBytes < paddedBytes) openBytes = 0;
  }
  return segments;
}

/** Bytes from the first segment's address to the end of the last; 0 when nothing is mapped. */
export function mappedBytes(elements: readonly ScatterElement[]): number {
  let end = elements[0].dmaAddress;
  for (const element of elements) {
    if (element.dmaBytes === 0) break;
    end = element.dmaAddress + element.dmaBytes;
  }
  return end - elements[0].dmaAddress;
}

export function clearSegments(elements: readonly ScatterElement[]): void {
  for (const element of elements) {
    element.dmaAddress = NO_ADDRESS;
    element.dmaBytes = 0;
  }
}

function alignUp(value: number, align: number): number {
  return Math.ceil(value / align) * align;
}
