/**
 * The page table that every format shares: a radix tree of tables in memory, mapped and
 * unmapped without a lock. CPUs may work under the same table at the same time as long as
 * their IOVA ranges differ; who maps and unmaps one range at the same time has a bug.
 *
 * Behaviour is that of the kernel's io-pgtable-arm.c (6.12). Tables that run empty stay in
 * the tree until something larger takes their place: freeing them would cost an
 * invalidation of the walk caches each time.
 *
 * `RadixTable` owns its tables' memory; tables that an unmap took out of the tree belong to
 * the gather's owner, who gives them back through `freeTables`.
 */

import {
  assert,
  type Cpu,
  type FrameAllocator,
  type Iova,
  type PhysicalAddress,
  type Routine,
  Work,
} from "#machine";
import { ENTRY_BYTES, ENTRY_INVALID, ENTRY_LEAF, ENTRY_TABLE, type TableFormat } from "./format.js";
import { TablePages } from "./table-pages.js";
import {
  type MapFailure,
  type PageTable,
  Protection,
  type TlbHooks,
  type UnmapGather,
} from "./tlb.js";

/**
 * What an unmap of a part of a block does: the kernel's Arm tables split the block up to
 * 6.12 and refuse since 6.13.
 */
export type PartOfBlock = "refuse" | "split";

export interface RadixTableOptions<Gather extends UnmapGather> {
  readonly frames: FrameAllocator;
  readonly tlb: TlbHooks<Gather>;
  readonly unmapPartOfBlock: PartOfBlock;
}

/** In place of a number of bytes: there was no memory for a table. */
const NO_MEMORY = -1;

const ACCESS = Protection.read | Protection.write;

/** `Controls` is what the hardware's descriptor has to say so that it walks the table. */
export class RadixTable<Gather extends UnmapGather = UnmapGather, Controls = unknown>
  implements PageTable<Gather>
{
  readonly format: TableFormat;
  readonly controls: Controls;
  readonly rootAddress: PhysicalAddress;
  readonly pageSizesBytes: readonly number[];
  failure: MapFailure | undefined;
  /** Unmaps that stopped where nothing was mapped (the kernel warns). */
  unmapOfNothingCount = 0;
  /** Unmaps that stopped at a larger block of which they asked for a part (the kernel warns). */
  unmapOfPartCount = 0;
  readonly #pages: TablePages;
  readonly #tlb: TlbHooks<Gather>;
  readonly #splits: boolean;

  private constructor(
    format: TableFormat,
    controls: Controls,
    rootAddress: PhysicalAddress,
    pages: TablePages,
    options: RadixTableOptions<Gather>,
  ) {
    this.format = format;
    this.controls = controls;
    this.rootAddress = rootAddress;
    this.pageSizesBytes = format.pageSizesBytes;
    this.#pages = pages;
    this.#tlb = options.tlb;
    this.#splits = options.unmapPartOfBlock === "split";
  }

  /** An empty table. Throws `OutOfFramesError` when there is no memory for its top. */
  static *create<Gather extends UnmapGather, Controls>(
    cpu: Cpu,
    format: TableFormat,
    controls: Controls,
    options: RadixTableOptions<Gather>,
  ): Routine<RadixTable<Gather, Controls>> {
    const pages = new TablePages(format, options.frames);
    const rootAddress = yield* pages.allocateTop(cpu);
    // The zeros are in memory before the hardware is told where the table is.
    yield* cpu.fence("device-write");
    return new RadixTable(format, controls, rootAddress, pages, options);
  }

  /**
   * A run of leaves that finds a leaf in its way writes nothing in that table; runs in tables
   * before it stay mapped and are counted. A table in its way is replaced, with whatever is
   * mapped below it: the caller vouches that nothing is.
   */
  *mapPages(
    cpu: Cpu,
    iova: Iova,
    paddr: PhysicalAddress,
    pageBytes: number,
    pageCount: number,
    protection: number,
  ): Routine<number> {
    const { format } = this;
    const leafLevel = this.#levelOf(pageBytes);
    const sizeBytes = pageBytes * pageCount;
    let failure = this.#refusal(leafLevel, iova, paddr, sizeBytes);
    this.failure = failure;
    if (failure !== undefined) return 0;
    // What allows no access needs no entry.
    if ((protection & ACCESS) === 0) return sizeBytes;
    assert(isAligned(iova, paddr, pageBytes), "IOVA and physical address are aligned to the page");
    const attributesLo = format.attributesLo(protection, leafLevel);
    const attributesHi = format.attributesHi(protection);
    let doneBytes = 0;
    while (doneBytes < sizeBytes) {
      let table = this.rootAddress;
      let mask = format.topEntries - 1;
      for (let level = format.topLevel; level < leafLevel; level++) {
        const index = ((iova + doneBytes) / format.spanBytes[level]) & mask;
        let lo = yield* cpu.read64(table + index * ENTRY_BYTES);
        if (lo === 0 && cpu.hi === 0) {
          const entry = table + index * ENTRY_BYTES;
          yield* this.#pages.install(cpu, entry);
          lo = yield* cpu.read64(entry);
        }
        if (format.entryKind(lo, level) !== ENTRY_TABLE) {
          failure = lo === 0 && cpu.hi === 0 ? "no memory" : "exists";
          break;
        }
        // Another CPU's new table, not written back yet: the walker might miss it.
        if ((cpu.hi & format.writtenBackHi) !== format.writtenBackHi) this.#pages.writeBack(cpu, 1);
        table = format.tableAddress(lo, cpu.hi);
        mask = format.tableEntries - 1;
      }
      if (failure !== undefined) break;
      const first = ((iova + doneBytes) / pageBytes) & mask;
      const end = first + Math.min((sizeBytes - doneBytes) / pageBytes, mask + 1 - first);
      for (let index = first; index < end; index++) {
        const lo = yield* cpu.read64(table + index * ENTRY_BYTES);
        if (lo === 0 && cpu.hi === 0) continue;
        const to = iova + doneBytes + (index - first) * pageBytes;
        const entry = table + index * ENTRY_BYTES;
        if (yield* this.#makeRoom(cpu, entry, lo, leafLevel, to)) continue;
        failure = "exists";
        break;
      }
      if (failure !== undefined) break;
      for (let index = first; index < end; index++) {
        const from = paddr + doneBytes + (index - first) * pageBytes;
        const lo = format.leafLo(attributesLo, from);
        yield* cpu.write64(table + index * ENTRY_BYTES, lo, format.leafHi(attributesHi, from));
      }
      this.#charge(cpu, leafLevel, end - first);
      doneBytes += (end - first) * pageBytes;
    }
    // The entries are in memory before anybody can tell a device about them.
    yield* cpu.fence("device-write");
    // Last, with no step in between: the caller reads it before another CPU's map sets it.
    this.failure = failure;
    return doneBytes;
  }

  *unmapPages(
    cpu: Cpu,
    iova: Iova,
    pageBytes: number,
    pageCount: number,
    gather: Gather,
  ): Routine<number> {
    const { format } = this;
    const leafLevel = this.#levelOf(pageBytes);
    const sizeBytes = pageBytes * pageCount;
    if (this.#refusal(leafLevel, iova, 0, sizeBytes) !== undefined) return 0;
    assert(isAligned(iova, 0, pageBytes), "the IOVA is aligned to the page");
    let doneBytes = 0;
    walk: while (doneBytes < sizeBytes) {
      let table = this.rootAddress;
      let mask = format.topEntries - 1;
      for (let level = format.topLevel; level < leafLevel; level++) {
        const index = ((iova + doneBytes) / format.spanBytes[level]) & mask;
        const lo = yield* cpu.read64(table + index * ENTRY_BYTES);
        const kind = format.entryKind(lo, level);
        if (kind !== ENTRY_TABLE) {
          if (kind === ENTRY_LEAF && this.#splits) {
            const entry = table + index * ENTRY_BYTES;
            const at = iova + doneBytes;
            const left = sizeBytes - doneBytes;
            const cut = yield* this.#cutBlock(cpu, entry, level, at, pageBytes, left, gather);
            if (cut !== NO_MEMORY) {
              doneBytes += cut;
              continue walk;
            }
          }
          if (kind === ENTRY_LEAF) this.unmapOfPartCount++;
          else this.unmapOfNothingCount++;
          return doneBytes;
        }
        table = format.tableAddress(lo, cpu.hi);
        mask = format.tableEntries - 1;
      }
      const first = ((iova + doneBytes) / pageBytes) & mask;
      const end = first + Math.min((sizeBytes - doneBytes) / pageBytes, mask + 1 - first);
      let found = first;
      for (; found < end; found++) {
        const lo = yield* cpu.read64(table + found * ENTRY_BYTES);
        const kind = format.entryKind(lo, leafLevel);
        if (kind === ENTRY_INVALID) break;
        if (kind === ENTRY_LEAF) continue;
        const dropped = format.tableAddress(lo, cpu.hi);
        const under = iova + doneBytes + (found - first) * pageBytes;
        const entry = table + found * ENTRY_BYTES;
        yield* this.#dropTable(cpu, entry, dropped, leafLevel, under, gather.freedTables);
      }
      for (let index = first; index < found; index++) {
        yield* cpu.write64(table + index * ENTRY_BYTES, 0, 0);
      }
      this.#charge(cpu, leafLevel, found - first);
      const at = iova + doneBytes;
      const clearedBytes = (found - first) * pageBytes;
      doneBytes += clearedBytes;
      if (clearedBytes > 0 && !gather.queued && !gather.tryAdd(at, clearedBytes, pageBytes)) {
        yield* this.#addAfterSync(cpu, gather, at, clearedBytes, pageBytes);
      }
      if (found < end) {
        this.unmapOfNothingCount++;
        break;
      }
    }
    return doneBytes;
  }

  *iovaToPhys(cpu: Cpu, iova: Iova): Routine<PhysicalAddress> {
    const { format } = this;
    if (iova < 0 || iova > format.lastIova) return -1;
    let table = this.rootAddress;
    let mask = format.topEntries - 1;
    for (let level = format.topLevel; level <= format.lastLevel; level++) {
      const span = format.spanBytes[level];
      const lo = yield* cpu.read64(table + ((iova / span) & mask) * ENTRY_BYTES);
      const kind = format.entryKind(lo, level);
      if (kind === ENTRY_INVALID) return -1;
      if (kind === ENTRY_LEAF) {
        cpu.work(Work.pageTableLevel, level - format.topLevel + 1);
        return format.leafAddress(lo, cpu.hi, level) + (iova - Math.floor(iova / span) * span);
      }
      table = format.tableAddress(lo, cpu.hi);
      mask = format.tableEntries - 1;
    }
    return -1;
  }

  /** Gives back tables that an unmap took out, once an invalidation that covers them is over. */
  freeTables(cpu: Cpu, tables: readonly PhysicalAddress[]): void {
    this.#pages.free(cpu, tables);
  }

  /** Frees every table. No hardware may walk it any more. */
  *destroy(cpu: Cpu): Routine {
    const tables: PhysicalAddress[] = [];
    yield* this.#pages.collectBelow(cpu, this.rootAddress, this.format.topLevel, tables);
    this.#pages.free(cpu, tables);
    this.#pages.freeTop(cpu, this.rootAddress);
  }

  /** The level whose leaves have `pageBytes`; -1 when none has. */
  #levelOf(pageBytes: number): number {
    const { leafBytes, topLevel, lastLevel } = this.format;
    for (let level = lastLevel; level >= topLevel; level--) {
      if (leafBytes[level] === pageBytes) return level;
    }
    return -1;
  }

  #refusal(
    leafLevel: number,
    iova: Iova,
    paddr: PhysicalAddress,
    sizeBytes: number,
  ): MapFailure | undefined {
    if (leafLevel < 0) return "unsupported size";
    const { lastIova, lastPaddr } = this.format;
    if (iova < 0 || iova + sizeBytes - 1 > lastIova) return "out of range";
    if (paddr < 0 || paddr + sizeBytes - 1 > lastPaddr) return "out of range";
    return undefined;
  }

  #charge(cpu: Cpu, leafLevel: number, entries: number): void {
    cpu.work(Work.pageTableLevel, leafLevel - this.format.topLevel);
    cpu.work(Work.pageTableEntry, entries);
    this.#pages.writeBack(cpu, entries);
  }

  /** Clears the way for a leaf: true when `entry` held a table, which is gone now. */
  *#makeRoom(
    cpu: Cpu,
    entry: PhysicalAddress,
    lo: number,
    level: number,
    iova: Iova,
  ): Routine<boolean> {
    const { format } = this;
    if (format.entryKind(lo, level) !== ENTRY_TABLE) return false;
    const freed: PhysicalAddress[] = [];
    yield* this.#dropTable(cpu, entry, format.tableAddress(lo, cpu.hi), level, iova, freed);
    this.#pages.free(cpu, freed);
    return true;
  }

  /**
   * Takes `table` out of the tree: break-before-make, since a walker must not see a table and
   * a block for the same IOVA. Its pages go to `freed`.
   */
  *#dropTable(
    cpu: Cpu,
    entry: PhysicalAddress,
    table: PhysicalAddress,
    level: number,
    iova: Iova,
    freed: PhysicalAddress[],
  ): Routine {
    const { format } = this;
    yield* cpu.write64(entry, 0, 0);
    this.#pages.writeBack(cpu, 1);
    yield* this.#tlb.flushWalk(cpu, iova, format.spanBytes[level], this.pageSizesBytes[0]);
    freed.push(table);
    yield* this.#pages.collectBelow(cpu, table, level + 1, freed);
  }

  /** Notes a run of cleared leaves that the gather could not take as it was. */
  *#addAfterSync(
    cpu: Cpu,
    gather: Gather,
    iova: Iova,
    sizeBytes: number,
    pageBytes: number,
  ): Routine {
    yield* this.#tlb.addPage(cpu, gather, iova, pageBytes);
    const added = gather.tryAdd(iova, sizeBytes, pageBytes);
    assert(added, "a gather that holds the first page of a run takes the rest");
  }

  /**
   * Splits the block in `entry`, leaving out those leaves of the next size that are to be
   * unmapped, if they have `pageBytes`. Returns the bytes unmapped: 0 when the walk has to look
   * again, since the leaves are smaller still or another CPU split the block; or `NO_MEMORY`.
   */
  *#cutBlock(
    cpu: Cpu,
    entry: PhysicalAddress,
    level: number,
    iova: Iova,
    pageBytes: number,
    sizeBytes: number,
    gather: Gather,
  ): Routine<number> {
    const { spanBytes, tableEntries } = this.format;
    const hole = (iova / spanBytes[level + 1]) & (tableEntries - 1);
    const holeEntries =
      spanBytes[level + 1] === pageBytes ? Math.min(sizeBytes / pageBytes, tableEntries - hole) : 0;
    const split = yield* this.#pages.splitBlock(cpu, entry, level, hole, holeEntries);
    if (split === "no memory") return NO_MEMORY;
    const cutBytes = split === "split" ? holeEntries * pageBytes : 0;
    if (cutBytes > 0 && !gather.queued && !gather.tryAdd(iova, cutBytes, pageBytes)) {
      yield* this.#addAfterSync(cpu, gather, iova, cutBytes, pageBytes);
    }
    return cutBytes;
  }
}

/** Quotients instead of masks: pages may be larger than the 32 bits of a mask. */
function isAligned(iova: Iova, paddr: PhysicalAddress, pageBytes: number): boolean {
  const first = iova / pageBytes;
  const second = paddr / pageBytes;
  return Math.floor(first) === first && Math.floor(second) === second;
}
