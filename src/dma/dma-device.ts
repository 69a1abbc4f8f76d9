/**
 * A device as the DMA API sees it: what it can address, whether its accesses snoop the
 * CPU caches, and the domain that translates for it. Devices come in the groups of the
 * IOMMU core; those of a group share a domain.
 *
 * Set up and torn down by `setup.ts`.
 */

import type { IommuDevice, IommuGroup } from "#iommu";
import type { IovaAllocator, IovaDomainOptions } from "#iova";
import { AllocateFlag } from "#iova";
import type { FrameAllocator } from "#machine";
import type { DmaDomain } from "./dma-domain.js";
import type { FlushQueueKind } from "./flush-queue.js";

export type IovaAllocatorMaker = (options: IovaDomainOptions) => IovaAllocator;

/** Devices that share a default domain, and what the DMA API keeps for it. */
export interface DmaGroup {
  readonly group: IommuGroup;
  readonly devices: readonly DmaDevice[];
  readonly cpuCount: number;
  readonly flushQueueKind: FlushQueueKind;
  readonly makeIovas: IovaAllocatorMaker;
  /** Undefined while the default domain is an identity domain. */
  dma: DmaDomain | undefined;
}

/** Where a search for an IOVA may end, and how hard it tries. */
interface SearchLimits {
  /** Last page that the device can address. */
  limitPfn: number;
  /** Limit and flags of the first try: below `limitPfn` while 32-bit addresses are preferred. */
  firstLimitPfn: number;
  firstFlags: number;
}

export interface DmaDevice extends SearchLimits {
  readonly name: string;
  readonly iommuDevice: IommuDevice;
  /** Undefined for a device without an IOMMU. */
  group: DmaGroup | undefined;
  /** Where coherent buffers come from. */
  readonly frames: FrameAllocator;
  /** Whether the device's accesses snoop the CPU caches. */
  readonly coherent: boolean;
  /** Plugged into an outside port: it must not see a byte that was not meant for it. */
  readonly untrusted: boolean;
  /** Alignment that keeps a buffer from sharing a cache line with others (kernel: CWG). */
  readonly cacheAlignmentBytes: number;
  /** Longest segment that the device takes. */
  readonly maxSegmentBytes: number;
  /** No segment crosses a multiple of it; a power of two, infinity for none. */
  readonly segmentBoundaryBytes: number;
  /** What the bus adds to a physical address, when nothing translates. */
  readonly busOffset: number;
  /** Last address that passes the bus. */
  readonly busLast: number;
  /** Last address of the mask for streaming mappings, and for coherent allocations. */
  maskLast: number;
  coherentMaskLast: number;
  /** Try below 4 GiB first; ends for good when that fails once. */
  prefers32Bit: boolean;
  /** A driver is bound to the device: the group's domain cannot be replaced. */
  driverBound: boolean;
  /** The group's; undefined while the device goes direct. */
  dma: DmaDomain | undefined;
}

/** Bits that a number holds exactly: masks beyond mean no limit. */
const ADDRESS_BITS_MAX = 53;
const LAST_32 = 2 ** 32 - 1;

/** The last address of a DMA mask of `bits`. */
export function lastOfMask(bits: number): number {
  return 2 ** Math.min(bits, ADDRESS_BITS_MAX) - 1;
}

/** Declares what the device can address (kernel: dma_set_mask_and_coherent()). */
export function setDmaMask(device: DmaDevice, bits: number): void {
  device.maskLast = lastOfMask(bits);
  device.coherentMaskLast = device.maskLast;
  updateSearchLimits(device);
}

/** To be called whenever a mask, the domain or the preference for 32 bits has changed. */
export function updateSearchLimits(device: DmaDevice): void {
  const { dma } = device;
  if (dma === undefined) return;
  device.limitPfn = limitPfn(device, dma, device.maskLast);
  device.firstLimitPfn = firstLimitPfn(device, dma, device.limitPfn);
  const isFinal = device.firstLimitPfn === device.limitPfn;
  device.firstFlags = isFinal ? AllocateFlag.flushCaches : 0;
}

/** Where the first try for an address up to `limit` ends. */
export function firstLimitPfn(device: DmaDevice, dma: DmaDomain, limit: number): number {
  if (!device.prefers32Bit) return limit;
  return Math.min(limit, Math.floor(LAST_32 / dma.granuleBytes));
}

/** Last page for a mask that ends at `maskLast`. */
export function limitPfn(device: DmaDevice, dma: DmaDomain, maskLast: number): number {
  const last = Math.min(maskLast, device.busLast, dma.domain.aperture.last);
  return Math.floor((last + 1) / dma.granuleBytes) - 1;
}
