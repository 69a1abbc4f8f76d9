/**
 * The gather: which IOVAs one unmap has taken out of the page table and still has to
 * invalidate (kernel: struct iommu_iotlb_gather). One range of one leaf size; what
 * does not fit is invalidated first.
 *
 * The caller of an unmap owns the gather; page table and driver fill it.
 */

import { assert, type Cpu, type Iova, type PhysicalAddress, type Routine } from "#machine";
import type { UnmapGather } from "#pagetable";
import type { PagingDomain } from "./driver.js";

export class IotlbGather implements UnmapGather {
  /** First byte gathered; meaningless while `pageBytes` is 0. */
  firstIova: Iova = 0;
  /** Inclusive. */
  lastIova: Iova = -1;
  /** Leaf size of everything gathered; 0 when nothing is. */
  pageBytes = 0;
  queued = false;
  freedTables: PhysicalAddress[] = [];

  /** Makes the gather ready for an unmap; `queued` is decided once for the whole unmap. */
  begin(queued: boolean): void {
    assert(this.freedTables.length === 0, "freed tables were given back before the gather's reuse");
    this.reset();
    this.queued = queued;
  }

  reset(): void {
    this.firstIova = 0;
    this.lastIova = -1;
    this.pageBytes = 0;
  }
}

/** Notes one cleared leaf; syncs first when it is of another size or does not touch the range. */
export function* gatherAddPage(
  cpu: Cpu,
  domain: PagingDomain,
  gather: IotlbGather,
  iova: Iova,
  pageBytes: number,
): Routine {
  const last = iova + pageBytes - 1;
  const fits =
    gather.pageBytes === 0 ||
    (gather.pageBytes === pageBytes && iova <= gather.lastIova + 1 && last + 1 >= gather.firstIova);
  if (!fits) yield* domain.iotlbSync(cpu, gather);
  if (gather.pageBytes === 0) {
    gather.firstIova = iova;
    gather.lastIova = last;
    gather.pageBytes = pageBytes;
    return;
  }
  gather.firstIova = Math.min(gather.firstIova, iova);
  gather.lastIova = Math.max(gather.lastIova, last);
}
