/**
 * Streaming maps of one physically contiguous range (kernel: dma_map_page_attrs(),
 * iommu_dma_map_page()). The caller must look at each result: `DMA_MAPPING_ERROR` when no
 * address is free, when the table is out of memory, or when the buffer would have to be
 * bounced.
 *
 * The way through an IOMMU is one generator, with the address allocator's and the IOMMU
 * core's below it; it allocates nothing.
 */

import { iommuMap, MapStatus } from "#iommu";
import { NO_IOVA } from "#iova";
import { assert, type Cpu, type PhysicalAddress, type Routine, Work } from "#machine";
import { Protection } from "#pagetable";
import { allocateBeyond32Bit, allocateIova } from "./allocate-iova.js";
import { needsBounce } from "./bounce-need.js";
import { cleanForDevice } from "./cache-maintenance.js";
import { Attribute, type DirectionCode, DMA_MAPPING_ERROR } from "./constants.js";
import { directAddress, isReachable, syncDirectForDevice } from "./direct.js";
import type { DmaDevice } from "./dma-device.js";
import type { DmaDomain } from "./dma-domain.js";
import { protectionOf } from "./protection.js";

/** Gives the device access to [paddr, paddr + sizeBytes) until `unmapPage`; returns its address. */
export function mapPage(
  cpu: Cpu,
  device: DmaDevice,
  paddr: PhysicalAddress,
  sizeBytes: number,
  direction: DirectionCode,
  attributes = 0,
): Routine<number> {
  const dma = device.dma;
  if (dma === undefined) return mapDirect(cpu, device, paddr, sizeBytes, attributes);
  return mapTranslated(cpu, device, dma, paddr, sizeBytes, direction, attributes);
}

/** The same for a buffer that a driver knows by its CPU address: here there is but one kind. */
export { mapPage as mapSingle };

/** Maps registers of another device: nothing is cached, nothing bounced (dma_map_resource()). */
export function* mapResource(
  cpu: Cpu,
  device: DmaDevice,
  paddr: PhysicalAddress,
  sizeBytes: number,
  direction: DirectionCode,
  attributes = 0,
): Routine<number> {
  cpu.work(Work.dmaCall);
  if (device.dma === undefined) {
    // Registers are not memory behind the bus: its offset does not apply.
    return isReachable(device, paddr, sizeBytes) ? paddr : DMA_MAPPING_ERROR;
  }
  const protection = protectionOf(direction, false, attributes) | Protection.mmio;
  const { maskLast } = device;
  return yield* mapRange(cpu, device, device.dma, paddr, sizeBytes, protection, maskLast);
}

/** Allocates an address below `maskLast` and maps the granules around a range there. */
export function* mapRange(
  cpu: Cpu,
  device: DmaDevice,
  dma: DmaDomain,
  paddr: PhysicalAddress,
  sizeBytes: number,
  protection: number,
  maskLast: number,
): Routine<number> {
  const { granuleBytes } = dma;
  const offset = paddr & (granuleBytes - 1);
  const pages = Math.ceil((offset + sizeBytes) / granuleBytes);
  const pfn = yield* allocateIova(cpu, device, dma, pages, maskLast);
  if (pfn === NO_IOVA) return DMA_MAPPING_ERROR;
  const iova = pfn * granuleBytes;
  const bytes = pages * granuleBytes;
  const status = yield* iommuMap(cpu, dma.domain, iova, paddr - offset, bytes, protection);
  if (status === MapStatus.mapped) return iova + offset;
  yield* dma.iovas.free(cpu, pfn, pages);
  return DMA_MAPPING_ERROR;
}

function* mapDirect(
  cpu: Cpu,
  device: DmaDevice,
  paddr: PhysicalAddress,
  sizeBytes: number,
  attributes: number,
): Routine<number> {
  cpu.work(Work.dmaCall);
  assert(sizeBytes > 0, "a mapping has a size");
  const dmaAddress = directAddress(device, paddr, sizeBytes);
  if (dmaAddress !== DMA_MAPPING_ERROR && !device.coherent) {
    yield* syncDirectForDevice(cpu, device, sizeBytes, attributes);
  }
  return dmaAddress;
}

/** As `mapRange`, in line because this is what I/O is made of. */
function* mapTranslated(
  cpu: Cpu,
  device: DmaDevice,
  dma: DmaDomain,
  paddr: PhysicalAddress,
  sizeBytes: number,
  direction: DirectionCode,
  attributes: number,
): Routine<number> {
  cpu.work(Work.dmaCall);
  assert(sizeBytes > 0, "a mapping has a size");
  const { granuleBytes } = dma;
  // The low bits survive the conversion to 32 bits that `&` makes.
  const offset = paddr & (granuleBytes - 1);
  const pages = Math.ceil((offset + sizeBytes) / granuleBytes);
  const bytes = pages * granuleBytes;
  const wholePages = offset === 0 && bytes === sizeBytes;
  if (!wholePages && needsBounce(device, sizeBytes, direction)) return DMA_MAPPING_ERROR;
  if (!device.coherent && (attributes & Attribute.skipCpuSync) === 0) {
    yield* cleanForDevice(cpu, sizeBytes);
  }
  const { limitPfn, firstLimitPfn } = device;
  let pfn = yield* dma.iovas.allocate(cpu, pages, firstLimitPfn, device.firstFlags);
  if (pfn === NO_IOVA && firstLimitPfn !== limitPfn) {
    pfn = yield* allocateBeyond32Bit(cpu, device, dma, pages, limitPfn);
  }
  if (pfn === NO_IOVA) return DMA_MAPPING_ERROR;
  const iova = pfn * granuleBytes;
  const protection = protectionOf(direction, device.coherent, attributes);
  const status = yield* iommuMap(cpu, dma.domain, iova, paddr - offset, bytes, protection);
  if (status === MapStatus.mapped) return iova + offset;
  yield* dma.iovas.free(cpu, pfn, pages);
  return DMA_MAPPING_ERROR;
}
