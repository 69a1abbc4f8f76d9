/**
 * The policy around the allocator of addresses (kernel: iommu_dma_alloc_iova()): a PCI
 * device gets addresses below 4 GiB for as long as there are any, because of devices and
 * firmware that claim more bits than they have; the first failure ends that for good.
 */

import { AllocateFlag, NO_IOVA } from "#iova";
import type { Cpu, Routine } from "#machine";
import { type DmaDevice, firstLimitPfn, limitPfn, updateSearchLimits } from "./dma-device.js";
import type { DmaDomain } from "./dma-domain.js";

/**
 * First page of `pages` below the end of a mask, or `NO_IOVA`. The path of streaming maps
 * is in line there, with `allocateBeyond32Bit` as its rare continuation.
 */
export function* allocateIova(
  cpu: Cpu,
  device: DmaDevice,
  dma: DmaDomain,
  pages: number,
  maskLast: number,
): Routine<number> {
  const limit = limitPfn(device, dma, maskLast);
  const first = firstLimitPfn(device, dma, limit);
  const flags = first === limit ? AllocateFlag.flushCaches : 0;
  const pfn = yield* dma.iovas.allocate(cpu, pages, first, flags);
  if (pfn !== NO_IOVA || first === limit) return pfn;
  return yield* allocateBeyond32Bit(cpu, device, dma, pages, limit);
}

/** Goes on after a first try below 4 GiB has failed, up to `limit`. */
export function allocateBeyond32Bit(
  cpu: Cpu,
  device: DmaDevice,
  dma: DmaDomain,
  pages: number,
  limit: number,
): Routine<number> {
  device.prefers32Bit = false;
  updateSearchLimits(device);
  return dma.iovas.allocate(cpu, pages, limit, AllocateFlag.flushCaches);
}
