/**
 * A domain small enough to be explored: one entry per page in memory, and for each page a device
 * that may walk to it once and keeps what it found in a TLB. Invalidating is one step, as an
 * SMMU's CMD_SYNC is one moment; its caller's own accesses around it say what came before and
 * after. It also hands out the pages' addresses, and so sees when each is given back.
 *
 * What others can see of it is cells and memory. The checks are those of docs/concurrency,
 * lines 20 and 24: nothing is given back while a translation through it is, or may yet be, cached.
 */

import type { IommuDriver, IotlbGather, PagingDomain } from "#iommu";
import { type IovaAllocator, NO_IOVA } from "#iova";
import {
  type Cell,
  type Cpu,
  type ExploredMachine,
  loneCell,
  type PhysicalAddress,
  type Routine,
} from "#machine";
import { check } from "../harness.js";

export const PAGE_BYTES = 4096;
/** The entries, and made-up addresses of one table per page. */
const ENTRIES = 0x1_0000;
const TABLES = 0x10_0000;
/** Page frame number of the first page. */
const FIRST_PFN = 16;

/** One page's ghost state. */
interface PageState {
  /** 1: a TLB has the translation. */
  readonly tlb: Cell;
  /** How often its address, and the table under it, was given back. */
  readonly released: Cell;
  readonly tableFreed: Cell;
}

export class FlatDomain implements PagingDomain, IovaAllocator {
  readonly kind = "paging";
  readonly aperture = { first: 0, last: 2 ** 32 - 1 };
  readonly pageSizesBytes = [PAGE_BYTES];
  readonly failure = undefined;
  readonly granuleBytes = PAGE_BYTES;
  readonly cachedPagesMax = 1;
  readonly pages: readonly PageState[];
  readonly #machine: ExploredMachine;
  /** The queue that takes invalidations: every command is an atomic operation on it. */
  readonly #queue = loneCell("invalidation queue");
  /** 1 while the devices are behind this domain. */
  readonly #attached = loneCell("attached", 1);
  readonly #isFreed = loneCell("domain freed");
  #allocated = 0;

  constructor(machine: ExploredMachine, pageCount: number) {
    this.#machine = machine;
    this.pages = Array.from({ length: pageCount }, (_, index) => ({
      tlb: loneCell(`TLB, page ${index}`),
      released: loneCell(`page ${index} given back`),
      tableFreed: loneCell(`table of page ${index} freed`),
    }));
  }

  /** A driver with this one domain to give. */
  driver(): IommuDriver {
    const domain = this;
    return {
      name: "flat",
      deferredFlush: true,
      *probe() {},
      *allocatePaging() {
        return domain;
      },
      *freePaging(cpu) {
        cpu.poke(domain.#isFreed, 1);
      },
      attach: (cpu, _device, to) => domain.#attach(cpu, to === domain),
      *attachPasid() {},
      *detachPasid() {},
      onFault() {},
    };
  }

  /** The devices leave for another domain or come; who leaves has nothing cached afterwards. */
  *#attach(cpu: Cpu, isThis: boolean): Routine {
    yield* cpu.fetchAdd(this.#queue, 1);
    cpu.poke(this.#attached, isThis ? 1 : 0);
    if (isThis) return;
    for (const { tlb } of this.pages) cpu.poke(tlb, 0);
  }

  /** Starts a device for each page, which walks to it once. */
  startDevices(onWalk: (isMapped: boolean) => void): void {
    const machine = this.#machine;
    const attached = this.#attached;
    this.pages.forEach(({ tlb, released, tableFreed }, index) => {
      machine.addAgent(`device ${index}`, function* (agent) {
        const entry = yield* agent.read64(entryOf(index));
        const isMapped = entry !== 0 && machine.observe(attached) === 1;
        onWalk(isMapped);
        if (!isMapped) return;
        agent.poke(tlb, 1);
        check(machine.observe(released) === 0, "no address is given back while it is mapped");
        check(machine.observe(tableFreed) === 0, "no table is freed while it can be walked");
      });
    });
  }

  /** Everything was given back once. */
  checkNothingStranded(): void {
    for (const { released, tableFreed } of this.pages) {
      check(released.value === 1, "every address is given back, once");
      check(tableFreed.value === 1, "every table is freed, once");
    }
  }

  // --- PagingDomain ---

  *mapPages(cpu: Cpu, iova: number, _paddr: PhysicalAddress): Routine<number> {
    yield* cpu.write64(entryOf(indexOf(iova / PAGE_BYTES)), 1, 0);
    yield* cpu.fence("device-write");
    return PAGE_BYTES;
  }

  *unmapPages(
    cpu: Cpu,
    iova: number,
    _pageBytes: number,
    _pageCount: number,
    gather: IotlbGather,
  ): Routine<number> {
    const index = indexOf(iova / PAGE_BYTES);
    yield* cpu.write64(entryOf(index), 0, 0);
    gather.freedTables.push(TABLES + index);
    if (!gather.queued) gather.tryAdd(iova, PAGE_BYTES, PAGE_BYTES);
    return PAGE_BYTES;
  }

  *iovaToPhys(cpu: Cpu, iova: number): Routine<number> {
    const entry = yield* cpu.read64(entryOf(indexOf(iova / PAGE_BYTES)));
    return entry === 0 ? -1 : iova;
  }

  *iotlbSync(cpu: Cpu, gather: IotlbGather): Routine {
    yield* cpu.fetchAdd(this.#queue, 1);
    if (gather.pageBytes !== 0) {
      cpu.poke(this.pages[indexOf(gather.firstIova / PAGE_BYTES)].tlb, 0);
    }
    this.freeTables(cpu, gather.freedTables);
    gather.freedTables.length = 0;
  }

  *flushIotlbAll(cpu: Cpu): Routine {
    yield* cpu.fetchAdd(this.#queue, 1);
    check(this.#machine.observe(this.#isFreed) === 0, "a domain that was freed is not flushed");
    for (const { tlb } of this.pages) cpu.poke(tlb, 0);
  }

  freeTables(cpu: Cpu, tables: readonly PhysicalAddress[]): void {
    for (const table of tables) {
      const { tlb, tableFreed } = this.pages[table - TABLES];
      check(this.#machine.observe(tlb) === 0, "a table is freed when no TLB has it any more");
      cpu.poke(tableFreed, this.#machine.observe(tableFreed) + 1);
    }
  }

  // --- IovaAllocator ---

  *allocate(): Routine<number> {
    if (this.#allocated === this.pages.length) return NO_IOVA;
    return FIRST_PFN + this.#allocated++;
  }

  /** In the step of the caller's last access: to be early is the stricter check. */
  *free(cpu: Cpu, pfn: number): Routine {
    const { tlb, released } = this.pages[indexOf(pfn)];
    check(this.#machine.observe(tlb) === 0, "an address is given back when no TLB has it any more");
    cpu.poke(released, this.#machine.observe(released) + 1);
  }

  *reserve(): Routine {}

  *destroy(): Routine {}
}

function indexOf(pfn: number): number {
  return pfn - FIRST_PFN;
}

function entryOf(index: number): PhysicalAddress {
  return ENTRIES + index * 8;
}
