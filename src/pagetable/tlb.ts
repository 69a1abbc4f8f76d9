/**
 * What a page table needs from whoever owns the TLBs that may cache it: the hooks
 * that a driver supplies, and the part of the caller's gather that it fills.
 */

import type { Cpu, Iova, PhysicalAddress, Routine } from "#machine";

/** The page-table side of a gather (the whole of it is `IotlbGather` in `iommu/`). */
export interface UnmapGather {
  /** Lazy unmap: the caller flushes the whole domain later, so single pages are not noted. */
  readonly queued: boolean;
  /** Table pages taken out of the tree; they are freed only after the next invalidation. */
  readonly freedTables: PhysicalAddress[];
  /** Notes cleared leaves of one size in a row; false, with nothing noted, if a sync goes first. */
  tryAdd(iova: Iova, sizeBytes: number, pageBytes: number): boolean;
}

/** What a page table asks of its domain's driver (kernel: struct iommu_flush_ops). */
export interface TlbHooks<Gather extends UnmapGather = UnmapGather> {
  /** Invalidates range and walk caches (leaf = 0) and waits for completion. */
  flushWalk(cpu: Cpu, iova: Iova, sizeBytes: number, granuleBytes: number): Routine;
  /**
   * Notes one cleared leaf, for which the gather may have to be synced first. A table calls it
   * where `gather.tryAdd` refused a run, and adds the rest of the run itself.
   */
  addPage(cpu: Cpu, gather: Gather, iova: Iova, granuleBytes: number): Routine;
}

/** What a mapping allows, as bits (kernel: IOMMU_READ, IOMMU_WRITE, …). */
export const Protection = {
  read: 1,
  write: 2,
  /** Device accesses snoop CPU caches. */
  cache: 4,
  noExecute: 8,
  /** Device memory: never cached, never gathered. */
  mmio: 16,
  privileged: 32,
} as const;

/** Why a map stopped early. */
export type MapFailure = "exists" | "out of range" | "unsupported size" | "no memory";

/**
 * A page table in memory, in the format of some IOMMU.
 *
 * `mapPages` returns the bytes it mapped; when that is less than asked, `failure`
 * says why (kept on the table so that the hot path allocates nothing). Read it at once:
 * another CPU's map under the same table sets it too.
 */
export interface PageTable<Gather extends UnmapGather = UnmapGather> {
  /** Supported leaf sizes in bytes, ascending. */
  readonly pageSizesBytes: readonly number[];
  readonly failure: MapFailure | undefined;
  /** Maps `pageCount` leaves of `pageBytes`, one of `pageSizesBytes`; all aligned to it. */
  mapPages(
    cpu: Cpu,
    iova: Iova,
    paddr: PhysicalAddress,
    pageBytes: number,
    pageCount: number,
    protection: number,
  ): Routine<number>;
  /** Returns the bytes unmapped; 0 when nothing is there or a larger block is in the way. */
  unmapPages(
    cpu: Cpu,
    iova: Iova,
    pageBytes: number,
    pageCount: number,
    gather: Gather,
  ): Routine<number>;
  /** Software walk; -1 when `iova` is not mapped. */
  iovaToPhys(cpu: Cpu, iova: Iova): Routine<PhysicalAddress>;
}
