/**
 * The interface between the IOMMU core and a driver. `drivers/*` implement it, `dma/`
 * and the core use it without knowing which hardware is below.
 */

import type { Cpu, Iova, PhysicalAddress, Routine, StreamId } from "#machine";
import type { PageTable } from "#pagetable";
import type { IotlbGather } from "./gather.js";

/** Domain types, in the words of /sys/kernel/iommu_groups/N/type. */
export type DomainType = "blocked" | "identity" | "unmanaged" | "DMA" | "DMA-FQ";

/** A function of a bus that masters DMA, with the ids its requests carry. */
export interface IommuDevice {
  readonly name: string;
  readonly streamIds: readonly StreamId[];
  /** It copes with faulting accesses being held until software decides (dma-can-stall). */
  readonly canStall?: boolean;
}

/** A domain whose devices all abort, or all pass untranslated: nothing to map. */
export interface FixedDomain {
  readonly kind: "blocked" | "identity";
}

/**
 * A domain with a page table of its own, made by `IommuDriver.allocatePaging`. `unmapPages`
 * notes in the gather what has to be invalidated, and does not invalidate it.
 */
export interface PagingDomain extends PageTable<IotlbGather> {
  readonly kind: "paging";
  /** IOVAs that can be translated, inclusive. */
  readonly aperture: { readonly first: Iova; readonly last: Iova };
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
