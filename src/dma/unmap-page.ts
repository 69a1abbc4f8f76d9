/**
 * The end of a streaming mapping (kernel: iommu_dma_unmap_page(), __iommu_dma_unmap()).
 * The order is what safety hangs on: out of the page table; invalidate; wait; give the
 * address back; return to the caller, who may then reuse the memory. A lazy domain puts
 * all but the first and the last off until the flush of its queue.
 */

import { iommuUnmapFast } from "#iommu";
import { assert, type Cpu, hex, type Routine, Work } from "#machine";
import { invalidateForCpu } from "./cache-maintenance.js";
import { Attribute, type DirectionCode } from "./constants.js";
import { syncDirectForCpu } from "./direct.js";
import type { DmaDevice } from "./dma-device.js";
import type { DmaDomain } from "./dma-domain.js";

/** Ends what `mapPage` began; address and size are those of the map. */
export function unmapPage(
  cpu: Cpu,
  device: DmaDevice,
  dmaAddress: number,
  sizeBytes: number,
  direction: DirectionCode,
  attributes = 0,
): Routine {
  const dma = device.dma;
  if (dma === undefined) return unmapDirect(cpu, device, sizeBytes, direction, attributes);
  return unmapTranslated(cpu, device, dma, dmaAddress, sizeBytes, direction, attributes);
}

export { unmapPage as unmapSingle };

/** Ends what `mapResource` began. */
export function* unmapResource(
  cpu: Cpu,
  device: DmaDevice,
  dmaAddress: number,
  sizeBytes: number,
): Routine {
  cpu.work(Work.dmaCall);
  if (device.dma !== undefined) yield* unmapRange(cpu, device.dma, dmaAddress, sizeBytes);
}

/** Takes the granules around a range out of the domain and gives their addresses back. */
export function* unmapRange(
  cpu: Cpu,
  dma: DmaDomain,
  dmaAddress: number,
  sizeBytes: number,
): Routine {
  const { granuleBytes } = dma;
  const offset = dmaAddress & (granuleBytes - 1);
  const pages = Math.ceil((offset + sizeBytes) / granuleBytes);
  const bytes = pages * granuleBytes;
  const iova = dmaAddress - offset;
  // Read once: the mode may change while the unmap is under way.
  const queued = (yield* cpu.load(dma.lazy)) !== 0;
  const gather = dma.takeGather(queued);
  const unmappedBytes = yield* iommuUnmapFast(cpu, dma.domain, iova, bytes, gather);
  if (unmappedBytes !== bytes) notMapped(iova, bytes, unmappedBytes);
  const pfn = iova / granuleBytes;
  if (queued) {
    assert(dma.flushQueue !== undefined, "lazy mode is on only while there is a queue");
    yield* dma.flushQueue.add(cpu, pfn, pages, gather);
  } else {
    // As `syncGather`, in line: each level of routines costs whenever the CPU waits below it.
    yield* dma.domain.iotlbSync(cpu, gather);
    gather.reset();
    yield* dma.iovas.free(cpu, pfn, pages);
  }
  dma.giveGather(gather);
}

function* unmapDirect(
  cpu: Cpu,
  device: DmaDevice,
  sizeBytes: number,
  direction: DirectionCode,
  attributes: number,
): Routine {
  cpu.work(Work.dmaCall);
  if (!device.coherent) yield* syncDirectForCpu(cpu, device, sizeBytes, direction, attributes);
}

function* unmapTranslated(
  cpu: Cpu,
  device: DmaDevice,
  dma: DmaDomain,
  dmaAddress: number,
  sizeBytes: number,
  direction: DirectionCode,
  attributes: number,
): Routine {
  cpu.work(Work.dmaCall);
  // The kernel walks the table on every unmap, to find out whether the buffer was bounced.
  const paddr = yield* dma.domain.iovaToPhys(cpu, dmaAddress);
  if (paddr === -1) notMapped(dmaAddress, sizeBytes, 0);
  if (!device.coherent && (attributes & Attribute.skipCpuSync) === 0) {
    yield* invalidateForCpu(cpu, sizeBytes, direction);
  }
  yield* unmapRange(cpu, dma, dmaAddress, sizeBytes);
}

function notMapped(dmaAddress: number, sizeBytes: number, mappedBytes: number): never {
  assert(
    false,
    `an unmap names what was mapped: of ${sizeBytes} bytes at ${hex(dmaAddress)} ` +
      `${mappedBytes} are`,
  );
}
