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

  tryAdd(iova: Iova, sizeBytes: number, pageBytes: number): boolean {
    const last = iova + sizeBytes - 1;
    if (this.pageBytes === 0) {
      this.pageBytes = pageBytes;
      this.firstIova = iova;
      this.lastIova = last;
      return true;
    }
    if (this.pageBytes !== pageBytes) return false;
    // A range that only touches the gathered one is no gap: nothing else is invalidated.
    if (iova > this.lastIova + 1 || last + 1 < this.firstIova) return false;
    if (iova < this.firstIova) this.firstIova = iova;
    if (last > this.lastIova) this.lastIova = last;
    return true;
  }

  /** Forgets the range, which was invalidated; freed tables stay until they are given back. */
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
  if (gather.tryAdd(iova, pageBytes, pageBytes)) return;
  yield* syncGather(cpu, domain, gather);
  gather.tryAdd(iova, pageBytes, pageBytes);
}

/** Invalidates what the gather holds, waits, and empties it (kernel: iommu_iotlb_sync()). */
export function* syncGather(cpu: Cpu, domain: PagingDomain, gather: IotlbGather): Routine {
  yield* domain.iotlbSync(cpu, gather);
  gather.reset();
}
