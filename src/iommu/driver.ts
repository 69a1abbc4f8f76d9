/**
 * The interface between the IOMMU core and a driver. `drivers/*` implement it, `dma/`
 * and the core use it without knowing which hardware is below.
 */

import type { Cpu, Iova, PhysicalAddress, Routine, StreamId } from "#machine";
import type { MapFailure } from "#pagetable";
import type { IotlbGather } from "./gather.js";

/** Domain types, in the words of /sys/kernel/iommu_groups/N/type. */
export type DomainType = "blocked" | "identity" | "unmanaged" | "DMA" | "DMA-FQ";

/** A function of a bus that masters DMA, with the ids its requests carry. */
export interface IommuDevice {
  readonly name: string;
  readonly streamIds: readonly StreamId[];
}

/** A domain whose devices all abort, or all pass untranslated: nothing to map. */
export interface FixedDomain {
  readonly kind: "blocked" | "identity";
}

/** A domain with a page table of its own. Made by `IommuDriver.allocatePaging`. */
export interface PagingDomain {
  readonly kind: "paging";
  /** Leaf sizes in bytes, ascending; the first is the granule. */
  readonly pageSizesBytes: readonly number[];
  /** IOVAs that can be translated, inclusive. */
  readonly aperture: { readonly first: Iova; readonly last: Iova };
  /** Why the last `mapPages` stopped early; to be read before the next step of any routine. */
  readonly failure: MapFailure | undefined;
  /** Maps leaves of one size; returns the bytes mapped (see `PageTable.mapPages`). */
  mapPages(
    cpu: Cpu,
    iova: Iova,
    paddr: PhysicalAddress,
    pageBytes: number,
    pageCount: number,
    protection: number,
  ): Routine<number>;
  /** Clears leaves; invalidation is noted in the gather, not done. Returns the bytes unmapped. */
  unmapPages(
    cpu: Cpu,
    iova: Iova,
    pageBytes: number,
    pageCount: number,
    gather: IotlbGather,
  ): Routine<number>;
  /** Software walk; -1 when nothing is mapped. */
  iovaToPhys(cpu: Cpu, iova: Iova): Routine<PhysicalAddress>;
  /** Invalidates what the gather holds, waits, and frees its tables. */
  iotlbSync(cpu: Cpu, gather: IotlbGather): Routine;
  /** Invalidates everything of this domain and waits. */
  flushIotlbAll(cpu: Cpu): Routine;
  /** Gives table pages back once an invalidation that covers them has completed. */
  freeTables(cpu: Cpu, tables: readonly PhysicalAddress[]): void;
}

export type IommuDomain = FixedDomain | PagingDomain;

/** What the driver read from the hardware's fault record. Hardware faults are values. */
export interface FaultReport {
  /** The record's architected name, e.g. `F_TRANSLATION`. */
  readonly type: string;
  readonly streamId: StreamId;
  readonly iova: Iova;
  readonly access: "read" | "write";
  /** The raw record as 32-bit words, for `explain`. */
  readonly words: readonly number[];
}

export interface IommuDriver {
  readonly name: string;
  /** Whether `flushIotlbAll` may be deferred (kernel: IOMMU_CAP_DEFERRED_FLUSH). */
  readonly deferredFlush: boolean;
  /** Finds out what the hardware can do, resets it and turns translation on. */
  probe(cpu: Cpu): Routine;
  allocatePaging(cpu: Cpu): Routine<PagingDomain>;
  /** Frees the tables and ids of a domain that no device is attached to. */
  freePaging(cpu: Cpu, domain: PagingDomain): Routine;
  /** Moves a device to a domain; when it returns, the old domain no longer reaches it. */
  attach(cpu: Cpu, device: IommuDevice, domain: IommuDomain): Routine;
  /** Called with each fault record that the driver takes off the hardware's queue. */
  onFault(listener: (fault: FaultReport) => void): void;
}
