/**
 * What the DMA API keeps for a paging domain that it manages (kernel: struct
 * iommu_dma_cookie): the allocator of its addresses, the flush queue once it is lazy,
 * and the MSI doorbells mapped in it. Owned by the device that the domain belongs to.
 */

import { IotlbGather, type PagingDomain } from "#iommu";
import type { IovaAllocator } from "#iova";
import { Cell, Line } from "#machine";
import type { FlushQueue } from "./flush-queue.js";
import { type LazyStatistics, noLazyStatistics } from "./statistics.js";

export class DmaDomain {
  readonly domain: PagingDomain;
  readonly iovas: IovaAllocator;
  readonly granuleBytes: number;
  /** 1 while unmaps go to the flush queue (kernel: fq_domain); stored once that is complete. */
  readonly lazy = new Cell(new Line("lazy mode"), "lazy mode");
  flushQueue: FlushQueue | undefined;
  /** IOVA of each doorbell page, by its physical address. */
  readonly msiPages = new Map<number, number>();
  readonly statistics: LazyStatistics = noLazyStatistics();
  readonly #idleGathers: IotlbGather[] = [];

  constructor(domain: PagingDomain, iovas: IovaAllocator) {
    this.domain = domain;
    this.iovas = iovas;
    this.granuleBytes = iovas.granuleBytes;
  }

  /** A gather of the caller's own until `giveGather`: an interrupt may unmap while it is in use. */
  takeGather(queued: boolean): IotlbGather {
    const gather = this.#idleGathers.pop() ?? new IotlbGather();
    gather.begin(queued);
    return gather;
  }

  giveGather(gather: IotlbGather): void {
    this.#idleGathers.push(gather);
  }
}
