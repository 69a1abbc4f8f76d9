/**
 * A domain with a page table: the table of either stage, the tags of its TLB entries, and the
 * invalidation hooks between the two (kernel: struct arm_smmu_domain).
 *
 * One domain may be behind several SMMUs. Stage 1 has one ASID for all of them; stage 2 has a
 * VMID for each, which lasts as long as a device there is attached.
 *
 * `SmmuDomain` owns table, tags and invalidations. Who changes tags or attachments holds the
 * attach lock.
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
  createLpaeStage2Table,
  createLpaeTable,
  type LpaeControls,
  type LpaeStage2Controls,
  type MapFailure,
  type PartOfBlock,
  type RadixTable,
  type TlbHooks,
} from "#pagetable";
import type { TagAllocator } from "./asid.js";
import { stage1Cd } from "./entries/entry-formats.js";
import { ArrayInvalidation } from "./invalidation/array-invalidation.js";
import type { DomainInvalidation } from "./invalidation/domain-invalidation.js";
import { InvalidationKind, type SmmuInstance } from "./invalidation/invalidation.js";
import { ListInvalidation } from "./invalidation/list-invalidation.js";
import type { Master } from "./master.js";
import type { Features } from "./probe.js";
import type { SmmuShared } from "./shared.js";

/** Tables of 4 KiB translate and put out no more (kernel: arm_lpae_restrict_pgsizes()). */
const ADDRESS_BITS_MAX = 48;

/** What a domain needs of an SMMU whose tags it uses. */
export interface TaggedInstance extends SmmuInstance {
  readonly vmids: TagAllocator;
  readonly features: Features;
}

export interface DomainOptions {
  readonly shared: SmmuShared;
  /** Where the domain is made; what its table looks like follows from what this SMMU can. */
  readonly home: TaggedInstance;
  readonly frames: FrameAllocator;
  readonly unmapPartOfBlock: PartOfBlock;
  /** Guests' stage 1 may be nested in it; stage 2 only. */
  readonly nestingParent: boolean;
}

/** By stage: the table, and what the hardware's entry says of it. */
export type StageTable =
  | {
      readonly stage: 1;
      readonly table: RadixTable<IotlbGather, LpaeControls>;
    }
  | {
      readonly stage: 2;
      readonly table: RadixTable<IotlbGather, LpaeStage2Controls>;
    };

/** A device, by its master, with the SubstreamID that leads to the domain. */
export interface Attachment {
  readonly master: Master;
  readonly ssid: number;
}

interface VmidUse {
  readonly vmid: number;
  users: number;
}

export class SmmuDomain implements PagingDomain {
  readonly kind = "paging";
  readonly aperture: { readonly first: Iova; readonly last: Iova };
  readonly shared: SmmuShared;
  readonly home: TaggedInstance;
  readonly nestingParent: boolean;
  readonly tables: StageTable;
  readonly invalidation: DomainInvalidation;
  /** Of stage 1; 0 for stage 2. It changes when ASIDs are renumbered. */
  asid: number;
  /** Entries of the hardware that lead here; the same twice while a device is attached again. */
  readonly attachments: Attachment[] = [];
  /** Virtual SMMUs that nest in it. */
  virtualCount = 0;
  readonly #table: RadixTable<IotlbGather>;
  readonly #vmids = new Map<TaggedInstance, VmidUse>();

  private constructor(tables: StageTable, asid: number, options: DomainOptions) {
    const { shared, home } = options;
    this.tables = tables;
    this.#table = tables.table;
    this.asid = asid;
    this.shared = shared;
    this.home = home;
    this.nestingParent = options.nestingParent;
    this.aperture = { first: 0, last: tables.table.format.lastIova };
    const name = tables.stage === 1 ? `ASID ${asid}` : "stage 2";
    if (shared.invalidation === "array") this.invalidation = new ArrayInvalidation(name, shared);
    else {
      const tag = { smmu: home, kind: InvalidationKind.s1Asid, id: asid, ssid: 0 };
      this.invalidation = new ListInvalidation(name, tables.stage === 1 ? tag : undefined);
    }
  }

  /** Stage 1, with an ASID that the caller has taken. */
  static *createStage1(cpu: Cpu, asid: number, options: DomainOptions): Routine<SmmuDomain> {
    const { iasBits, coherent } = options.home.features;
    const oasBits = Math.min(options.home.features.oasBits, ADDRESS_BITS_MAX);
    const tlb = new DomainTlb();
    const { frames, unmapPartOfBlock } = options;
    const of = { frames, tlb, iasBits, oasBits, coherentWalk: coherent, unmapPartOfBlock };
    const table = yield* createLpaeTable(cpu, of);
    tlb.domain = new SmmuDomain({ stage: 1, table }, asid, options);
    return tlb.domain;
  }

  /** Stage 2: what it translates is as wide as what it puts out. */
  static *createStage2(cpu: Cpu, options: DomainOptions): Routine<SmmuDomain> {
    const { coherent } = options.home.features;
    const oasBits = Math.min(options.home.features.oasBits, ADDRESS_BITS_MAX);
    const tlb = new DomainTlb();
    const { frames, unmapPartOfBlock } = options;
    const of = { frames, tlb, iasBits: oasBits, oasBits, coherentWalk: coherent, unmapPartOfBlock };
    const table = yield* createLpaeStage2Table(cpu, of);
    tlb.domain = new SmmuDomain({ stage: 2, table }, 0, options);
    return tlb.domain;
  }

  get stage(): 1 | 2 {
    return this.tables.stage;
  }

  get pageSizesBytes(): readonly number[] {
    return this.#table.pageSizesBytes;
  }

  get failure(): MapFailure | undefined {
    return this.#table.failure;
  }

  /** The table itself, for tools that list what is mapped. */
  get table(): RadixTable<IotlbGather> {
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

  iotlbSync(cpu: Cpu, gather: IotlbGather): Routine {
    const { pageBytes, freedTables } = gather;
    if (pageBytes === 0 || freedTables.length > 0) return this.#syncAndFree(cpu, gather);
    return this.#invalidate(cpu, gather);
  }

  *#syncAndFree(cpu: Cpu, gather: IotlbGather): Routine {
    if (gather.pageBytes !== 0) yield* this.#invalidate(cpu, gather);
    this.#table.freeTables(cpu, gather.freedTables);
    gather.freedTables.length = 0;
  }

  #invalidate(cpu: Cpu, { firstIova, lastIova, pageBytes }: IotlbGather): Routine {
    return this.invalidation.invalidate(cpu, firstIova, lastIova - firstIova + 1, pageBytes, 1);
  }

  flushIotlbAll(cpu: Cpu): Routine {
    // No size in particular: everything, intermediate entries too.
    return this.invalidation.invalidate(cpu, 0, 0, this.pageSizesBytes[0], 0);
  }

  freeTables(cpu: Cpu, tables: readonly PhysicalAddress[]): void {
    this.#table.freeTables(cpu, tables);
  }

  /** What a context descriptor says of this domain; `stalls` where faulting requests wait. */
  contextDescriptor(stalls: boolean): Uint32Array {
    assert(this.tables.stage === 1, "stage 2 has no context descriptor");
    const { controls, rootAddress } = this.tables.table;
    return stage1Cd(controls, rootAddress, this.asid, stalls);
  }

  /** The VMID on an SMMU, which one more attachment uses; -1 when all are taken. */
  takeVmid(smmu: TaggedInstance): number {
    const known = this.#vmids.get(smmu);
    if (known !== undefined) {
      known.users++;
      return known.vmid;
    }
    const vmid = smmu.vmids.take(smmu.features.vmidBits);
    if (vmid >= 0) this.#vmids.set(smmu, { vmid, users: 1 });
    return vmid;
  }

  vmidOn(smmu: TaggedInstance): number {
    const known = this.#vmids.get(smmu);
    assert(known !== undefined, "an SMMU with attached devices has a VMID");
    return known.vmid;
  }

  /** An attachment less. The array has flushed the tag with its last user; the list never does. */
  giveVmid(smmu: TaggedInstance): void {
    const known = this.#vmids.get(smmu);
    assert(known !== undefined, "a VMID is given back as often as it was taken");
    if (--known.users > 0 || this.shared.invalidation === "list") return;
    this.#vmids.delete(smmu);
    smmu.vmids.give(known.vmid);
  }

  /** Frees table and tags. No device is attached. */
  *destroy(cpu: Cpu): Routine {
    yield* this.invalidation.destroy(cpu);
    for (const [smmu, { vmid }] of this.#vmids) smmu.vmids.give(vmid);
    yield* this.#table.destroy(cpu);
  }
}

/** The page table's way to the TLB. The domain is there before anything is mapped. */
class DomainTlb implements TlbHooks<IotlbGather> {
  domain: SmmuDomain | undefined;

  flushWalk(cpu: Cpu, iova: Iova, sizeBytes: number, granuleBytes: number): Routine {
    return this.#domain().invalidation.invalidate(cpu, iova, sizeBytes, granuleBytes, 0);
  }

  addPage(cpu: Cpu, gather: IotlbGather, iova: Iova, granuleBytes: number): Routine {
    return gatherAddPage(cpu, this.#domain(), gather, iova, granuleBytes);
  }

  #domain(): SmmuDomain {
    assert(this.domain !== undefined, "a table is used once its domain exists");
    return this.domain;
  }
}
