/**
 * Lazy mode of a domain on and off (kernel: iommu_dma_init_fq(), iommu_dma_free_fq()).
 * Every unmap reads once whether it is on; so the queue is complete before it is announced.
 */

import type { Cpu, Routine } from "#machine";
import type { DmaGroup } from "./dma-device.js";
import type { DmaDomain } from "./dma-domain.js";
import { FlushQueue } from "./flush-queue.js";

/** Unmaps of the domain are queued from now on; those under way end as they began. */
export function* startLazyMode(cpu: Cpu, dmaGroup: DmaGroup, dma: DmaDomain): Routine {
  if (dma.flushQueue !== undefined) return;
  dma.flushQueue = new FlushQueue({
    kind: dmaGroup.flushQueueKind,
    domain: dma.domain,
    iovas: dma.iovas,
    cpuCount: dmaGroup.cpuCount,
    statistics: dma.statistics,
  });
  yield* cpu.fence("write");
  yield* cpu.store(dma.lazy, 1);
}

/** For a domain that nothing unmaps from any more: what is queued is dropped, tables are freed. */
export function* stopLazyMode(cpu: Cpu, dma: DmaDomain): Routine {
  yield* cpu.store(dma.lazy, 0);
  if (dma.flushQueue !== undefined) yield* dma.flushQueue.destroy(cpu);
  dma.flushQueue = undefined;
}
