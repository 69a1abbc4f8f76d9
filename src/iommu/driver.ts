/**
 * The interface between the IOMMU core and a driver. `drivers/*` implement it, `dma/`
 * and the core use it without knowing which hardware is below.
 */

import type { Cpu, Iova, Pasid, PhysicalAddress, Routine, StreamId } from "#machine";
import type { PageTable } from "#pagetable";
import type { IotlbGather } from "./gather.js";

/** Domain types, in the words of /sys/kernel/iommu_groups/N/type. */
export type DomainType = "blocked" | "identity" | "unmanaged" | "DMA" | "DMA-FQ";

/** A function of a bus that masters DMA, with the ids its requests carry. */
export interface IommuDevice {
  readonly name: string;
  readonly streamIds: readonly StreamId[];
  /** Where the device can keep translations in a cache of its own (PCI ATS). */
  readonly ats?: AtsControl;
  /** log2 of the PASIDs that its requests can carry (PCI PASID capability); 0 where not given. */
  readonly pasidBits?: number;
  /** It copes with faulting accesses being held until software decides (dma-can-stall). */
  readonly canStall?: boolean;
}

/**
 * The ATS capability in a device's configuration space. What `disable` turns off is off when
 * it returns.
 */
export interface AtsControl {
  /** Lets the device ask for translations, of at least 2^`unitLg2` bytes each. */
  enable(cpu: Cpu, unitLg2: number): Routine;
  disable(cpu: Cpu): Routine;
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

/** A guest's translation within a stage-2 domain; drivers have their own ways to make one. */
export interface NestedDomain {
  readonly kind: "nested";
}

export type IommuDomain = FixedDomain | PagingDomain | NestedDomain;

export interface PagingOptions {
  /** Which stage translates; where not given the one that the driver prefers, which is 1. */
  readonly stage?: 1 | 2;
  /** Guests' stage 1 will be nested in it, which is stage 2 then. */
  readonly nestingParent?: boolean;
}

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
  allocatePaging(cpu: Cpu, options?: PagingOptions): Routine<PagingDomain>;
  /** Frees the tables and ids of a domain that no device is attached to. */
  freePaging(cpu: Cpu, domain: PagingDomain): Routine;
  /** Moves a device to a domain; when it returns, the old domain no longer reaches it. */
  attach(cpu: Cpu, device: IommuDevice, domain: IommuDomain): Routine;
  /**
   * Moves a device's requests with a PASID to a domain, from none or from another one. Requests
   * without stay where they are. Throws for a PASID that device or IOMMU cannot do.
   */
  attachPasid(cpu: Cpu, device: IommuDevice, pasid: Pasid, domain: PagingDomain): Routine;
  /** Requests with the PASID abort; never fails. */
  detachPasid(cpu: Cpu, device: IommuDevice, pasid: Pasid): Routine;
  /** Called with each fault record that the driver takes off the hardware's queue. */
  onFault(listener: (fault: FaultReport) => void): void;
}
