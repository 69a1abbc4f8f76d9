/**
 * Buffers that CPU and device share for long (kernel: dma_alloc_coherent(),
 * dma_alloc_noncoherent(); iommu_dma_alloc()). Through an IOMMU such a buffer is made of
 * the largest blocks that the page sizes suggest, wherever they lie, and is contiguous for
 * the device.
 *
 * The driver owns the buffer until it frees it: the device's view goes first, then memory.
 */

import { iommuMapSg, type PhysicalRange } from "#iommu";
import { NO_IOVA } from "#iova";
import {
  type Cpu,
  FRAME_BYTES,
  OutOfFramesError,
  type PhysicalAddress,
  type Routine,
  Work,
} from "#machine";
import { allocateIova } from "./allocate-iova.js";
import { Attribute, Direction, type DirectionCode, DMA_MAPPING_ERROR } from "./constants.js";
import { directAddress } from "./direct.js";
import type { DmaDevice } from "./dma-device.js";
import type { DmaDomain } from "./dma-domain.js";
import { mapPage, mapRange } from "./map-page.js";
import { protectionOf } from "./protection.js";
import { unmapPage, unmapRange } from "./unmap-page.js";

export interface DmaBuffer {
  readonly dmaAddress: number;
  readonly sizeBytes: number;
  /** The memory, in the order in which the device sees it. */
  readonly pieces: readonly PhysicalRange[];
}

/** The page allocator serves blocks up to this (kernel: MAX_PAGE_ORDER 10 of 4 KiB pages). */
const BLOCK_BYTES_MAX = FRAME_BYTES * 2 ** 10;

/** A zeroed buffer that both see coherently; undefined when there is no memory or no address. */
export function* allocCoherent(
  cpu: Cpu,
  device: DmaDevice,
  sizeBytes: number,
  attributes = 0,
): Routine<DmaBuffer | undefined> {
  cpu.work(Work.dmaCall);
  const { dma } = device;
  if (dma === undefined) {
    const pieces = yield* allocateContiguous(cpu, device, sizeBytes);
    if (pieces === undefined) return undefined;
    const dmaAddress = coherentAddress(device, pieces[0].paddr, sizeBytes);
    return finish(cpu, device, dmaAddress, sizeBytes, pieces);
  }
  const protection = protectionOf(Direction.bidirectional, device.coherent, attributes);
  if ((attributes & Attribute.forceContiguous) === 0) {
    return yield* allocatePieces(cpu, device, dma, sizeBytes, protection, attributes);
  }
  const pieces = yield* allocateContiguous(cpu, device, sizeBytes);
  if (pieces === undefined) return undefined;
  const last = device.coherentMaskLast;
  const { paddr } = pieces[0];
  const dmaAddress = yield* mapRange(cpu, device, dma, paddr, sizeBytes, protection, last);
  return finish(cpu, device, dmaAddress, sizeBytes, pieces);
}

export function* freeCoherent(cpu: Cpu, device: DmaDevice, buffer: DmaBuffer): Routine {
  cpu.work(Work.dmaCall);
  const { dma } = device;
  if (dma !== undefined) yield* unmapRange(cpu, dma, buffer.dmaAddress, buffer.sizeBytes);
  freePieces(cpu, device, buffer.pieces);
}

/** A contiguous buffer mapped for streaming in one direction: the caller syncs. */
export function* allocNoncoherent(
  cpu: Cpu,
  device: DmaDevice,
  sizeBytes: number,
  direction: DirectionCode,
): Routine<DmaBuffer | undefined> {
  const pieces = yield* allocateContiguous(cpu, device, sizeBytes);
  if (pieces === undefined) return undefined;
  const wholeBytes = Math.ceil(sizeBytes / FRAME_BYTES) * FRAME_BYTES;
  const { paddr } = pieces[0];
  const skip = Attribute.skipCpuSync;
  const dmaAddress = yield* mapPage(cpu, device, paddr, wholeBytes, direction, skip);
  return finish(cpu, device, dmaAddress, wholeBytes, pieces);
}

export function* freeNoncoherent(
  cpu: Cpu,
  device: DmaDevice,
  buffer: DmaBuffer,
  direction: DirectionCode,
): Routine {
  const { dmaAddress, sizeBytes } = buffer;
  yield* unmapPage(cpu, device, dmaAddress, sizeBytes, direction, Attribute.skipCpuSync);
  freePieces(cpu, device, buffer.pieces);
}

function* allocatePieces(
  cpu: Cpu,
  device: DmaDevice,
  dma: DmaDomain,
  sizeBytes: number,
  protection: number,
  attributes: number,
): Routine<DmaBuffer | undefined> {
  const bytes = Math.ceil(sizeBytes / dma.granuleBytes) * dma.granuleBytes;
  const single = (attributes & Attribute.allocateSinglePages) !== 0;
  const sizes = single ? [dma.granuleBytes] : dma.domain.pageSizesBytes;
  const pieces: PhysicalRange[] = [];
  for (let left = bytes; left > 0; left -= pieces[pieces.length - 1].sizeBytes) {
    const piece = yield* allocatePiece(cpu, device, sizes, left);
    if (piece === undefined) return finish(cpu, device, DMA_MAPPING_ERROR, 0, pieces);
    pieces.push(piece);
  }
  const pages = bytes / dma.granuleBytes;
  const pfn = yield* allocateIova(cpu, device, dma, pages, device.coherentMaskLast);
  if (pfn === NO_IOVA) return finish(cpu, device, DMA_MAPPING_ERROR, 0, pieces);
  const iova = pfn * dma.granuleBytes;
  const mapped = yield* iommuMapSg(cpu, dma.domain, iova, pieces, pieces.length, protection);
  if (mapped === bytes) return finish(cpu, device, iova, sizeBytes, pieces);
  yield* dma.iovas.free(cpu, pfn, pages);
  return finish(cpu, device, DMA_MAPPING_ERROR, 0, pieces);
}

/** The buffer, or its memory given back when the device could not be shown it. */
function finish(
  cpu: Cpu,
  device: DmaDevice,
  dmaAddress: number,
  sizeBytes: number,
  pieces: readonly PhysicalRange[],
): DmaBuffer | undefined {
  if (dmaAddress !== DMA_MAPPING_ERROR) return { dmaAddress, sizeBytes, pieces };
  freePieces(cpu, device, pieces);
  return undefined;
}

/** The largest block of one of `sizes` that is not more than `leftBytes` and can be had. */
function* allocatePiece(
  cpu: Cpu,
  device: DmaDevice,
  sizes: readonly number[],
  leftBytes: number,
): Routine<PhysicalRange | undefined> {
  for (let index = sizes.length - 1; index >= 0; index--) {
    const bytes = sizes[index];
    if (bytes > leftBytes || (bytes > BLOCK_BYTES_MAX && index > 0)) continue;
    const paddr = yield* tryAllocate(cpu, device, bytes);
    if (paddr !== undefined) return { paddr, sizeBytes: bytes };
  }
  return undefined;
}

function* allocateContiguous(
  cpu: Cpu,
  device: DmaDevice,
  sizeBytes: number,
): Routine<readonly PhysicalRange[] | undefined> {
  const paddr = yield* tryAllocate(cpu, device, sizeBytes);
  return paddr === undefined ? undefined : [{ paddr, sizeBytes }];
}

/** Being out of memory is an answer here: every caller of these functions has to expect it. */
function* tryAllocate(
  cpu: Cpu,
  device: DmaDevice,
  sizeBytes: number,
): Routine<PhysicalAddress | undefined> {
  try {
    return yield* device.frames.allocate(cpu, sizeBytes);
  } catch (error) {
    if (error instanceof OutOfFramesError) return undefined;
    throw error;
  }
}

function freePieces(cpu: Cpu, device: DmaDevice, pieces: readonly PhysicalRange[]): void {
  for (const { paddr, sizeBytes } of pieces) device.frames.free(cpu, paddr, sizeBytes);
}

function coherentAddress(device: DmaDevice, paddr: PhysicalAddress, sizeBytes: number): number {
  const dmaAddress = directAddress(device, paddr, sizeBytes);
  const reachable = dmaAddress + sizeBytes - 1 <= device.coherentMaskLast;
  return reachable ? dmaAddress : DMA_MAPPING_ERROR;
}
