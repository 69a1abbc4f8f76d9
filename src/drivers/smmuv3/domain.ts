/**
 * A domain with a page table: an LPAE stage-1 table, the ASID that tags its TLB entries, and
 * the invalidation hooks between the two (kernel: struct arm_smmu_domain).
 *
 * `SmmuDomain` owns the table; the driver owns the ASID.
 */

import { gatherAddPage, type IotlbGather, type PagingDomain } from "#iommu";
import {
  assert,
  type Cpu,
  type FrameAllocator,
  type Iova,
  type PhysicalAddress,
  type Routine,
} from "#machine";
import {
  createLpaeTable,
  type LpaeTable,
  type MapFailure,
  type PartOfBlock,
  type TlbHooks,
} from "#pagetable";
import type { CommandBatches, CommandSink } from "./command-batch.js";
import type { CommandQueue } from "./command-queue.js";
import { stage1Cd } from "./entry-formats.js";
import type { Features } from "./probe.js";
import { invalidateAsid, invalidateRange, type TlbTag } from "./tlb-invalidation.js";

/** The CPUs' page size, which decides the granule that the kernel asks for. */
const PAGE_LG2 = 12;

export interface DomainOptions {
  readonly frames: FrameAllocator;
  readonly features: Features;
  readonly unmapPartOfBlock: PartOfBlock;
}

export class SmmuDomain implements PagingDomain, TlbTag {
  readonly kind = "paging";
  readonly aperture: { readonly first: Iova; readonly last: Iova };
  readonly asid: number;
  readonly pageLg2 = PAGE_LG2;
  readonly rangeInvalidation: boolean;
  readonly forceSync: boolean;
  readonly queue: CommandQueue;
  readonly batches: CommandBatches;
  /** Devices whose entries point to this domain's table. */
  attachedCount = 0;
  readonly #table: LpaeTable<IotlbGather>;

  private constructor(
    table: LpaeTable<IotlbGather>,
    sink: CommandSink,
    asid: number,
    features: Features,
  ) {
    this.#table = table;
    this.asid = asid;
    this.queue = sink.queue;
    this.batches = sink.batches;
    this.forceSync = sink.forceSync;
    this.rangeInvalidation = features.rangeInvalidation;
    this.aperture = { first: 0, last: 2 ** features.iasBits - 1 };
  }

  static *create(
    cpu: Cpu,
    sink: CommandSink,
    asid: number,
    options: DomainOptions,
  ): Routine<SmmuDomain> {
    const { features } = options;
    const hooks = new DomainTlb();
    const table = yield* createLpaeTable(cpu, {
      frames: options.frames,
      tlb: hooks,
      iasBits: features.iasBits,
      oasBits: features.oasBits,
      coherentWalk: features.coherent,
      unmapPartOfBlock: options.unmapPartOfBlock,
    });
    const domain = new SmmuDomain(table, sink, asid, features);
    hooks.domain = domain;
    return domain;
  }

  get pageSizesBytes(): readonly number[] {
    return this.#table.pageSizesBytes;
  }

  get failure(): MapFailure | undefined {
    return this.#table.failure;
  }

  /** The table itself, for tools that list what is mapped. */
  get table(): LpaeTable<IotlbGather> {
    return this.#table;
  }

  mapPages(
    cpu: Cpu,
    iova: Iova,
    paddr: PhysicalAddress,
    pageBytes: number,
    pageCount: number,
    protection: number,
  ): Routine<number> {
    return this.#table.mapPages(cpu, iova, paddr, pageBytes, pageCount, protection);
  }

  unmapPages(
    cpu: Cpu,
    iova: Iova,
    pageBytes: number,
    pageCount: number,
    gather: IotlbGather,
  ): Routine<number> {
    return this.#table.unmapPages(cpu, iova, pageBytes, pageCount, gather);
  }

  iovaToPhys(cpu: Cpu, iova: Iova): Routine<PhysicalAddress> {
    return this.#table.iovaToPhys(cpu, iova);
  }

  *iotlbSync(cpu: Cpu, gather: IotlbGather): Routine {
    if (gather.pageBytes !== 0) {
      const sizeBytes = gather.lastIova - gather.firstIova + 1;
      yield* invalidateRange(cpu, this, gather.firstIova, sizeBytes, gather.pageBytes, 1);
    }
    if (gather.freedTables.length > 0) {
      this.#table.freeTables(cpu, gather.freedTables);
      gather.freedTables.length = 0;
    }
  }

  flushIotlbAll(cpu: Cpu): Routine {
    return invalidateAsid(cpu, this);
  }

  freeTables(cpu: Cpu, tables: readonly PhysicalAddress[]): void {
    this.#table.freeTables(cpu, tables);
  }

  /** What a device's context descriptor says while it is attached here. */
  contextDescriptor(): Uint32Array {
    return stage1Cd(this.#table.controls, this.#table.rootAddress, this.asid);
  }

  /** Drops what the TLB has under the ASID, then the table. No device is attached. */
  *destroy(cpu: Cpu): Routine {
    yield* invalidateAsid(cpu, this);
    yield* this.#table.destroy(cpu);
  }
}

/** The page table's way to the TLB. The domain is there before anything is mapped. */
class DomainTlb implements TlbHooks<IotlbGather> {
  domain: SmmuDomain | undefined;

  flushWalk(cpu: Cpu, iova: Iova, sizeBytes: number, granuleBytes: number): Routine {
    return invalidateRange(cpu, this.#domain(), iova, sizeBytes, granuleBytes, 0);
  }

  addPage(cpu: Cpu, gather: IotlbGather, iova: Iova, granuleBytes: number): Routine {
    return gatherAddPage(cpu, this.#domain(), gather, iova, granuleBytes);
  }

  #domain(): SmmuDomain {
    assert(this.domain !== undefined, "a table is used once its domain exists");
    return this.domain;
  }
}
