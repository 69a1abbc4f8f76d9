/**
 * The tables of one page table as pieces of memory: allocated, put into the tree for all CPUs
 * to see, collected for freeing. `RadixTable` decides when a table goes in or may be freed;
 * this knows how.
 */

import {
  type Cpu,
  type FrameAllocator,
  OutOfFramesError,
  type PhysicalAddress,
  type Routine,
  Work,
} from "#machine";
import { ENTRY_BYTES, ENTRY_LEAF, ENTRY_TABLE, type TableFormat } from "./format.js";

/** In place of an address: memory is used up. */
const NO_TABLE = -1;

/** Entries that one write-back of a cache line makes visible to a walker that does not snoop. */
const ENTRIES_PER_LINE = 64 / ENTRY_BYTES;

/** `lost`: what was to be split is no block any more, another CPU was first. */
export type SplitResult = "split" | "lost" | "no memory";

export class TablePages {
  readonly #format: TableFormat;
  readonly #frames: FrameAllocator;
  readonly #tableBytes: number;
  readonly #topBytes: number;

  constructor(format: TableFormat, frames: FrameAllocator) {
    this.#format = format;
    this.#frames = frames;
    this.#tableBytes = format.tableEntries * ENTRY_BYTES;
    this.#topBytes = format.topEntries * ENTRY_BYTES;
  }

  /** The top table, empty. Throws `OutOfFramesError`: a domain without one cannot be. */
  allocateTop(cpu: Cpu): Routine<PhysicalAddress> {
    return this.#frames.allocate(cpu, this.#topBytes);
  }

  freeTop(cpu: Cpu, table: PhysicalAddress): void {
    this.#frames.free(cpu, table, this.#topBytes);
  }

  free(cpu: Cpu, tables: readonly PhysicalAddress[]): void {
    for (const table of tables) this.#frames.free(cpu, table, this.#tableBytes);
  }

  /**
   * Puts an empty table into the empty `entry`. The entry stays empty when memory is used up,
   * and keeps what another CPU put there meanwhile.
   */
  *install(cpu: Cpu, entry: PhysicalAddress): Routine {
    const table = yield* this.#allocate(cpu);
    if (table !== NO_TABLE) yield* this.#publish(cpu, entry, 0, 0, table);
  }

  /**
   * Replaces the block in `entry` at `level` by a table of leaves of the next size that map the
   * same, less the hole. Block and table are valid one right after the other: that is no
   * break-before-make, and a reason why the kernel gave splitting up.
   */
  *splitBlock(
    cpu: Cpu,
    entry: PhysicalAddress,
    level: number,
    hole: number,
    holeEntries: number,
  ): Routine<SplitResult> {
    const format = this.#format;
    const table = yield* this.#allocate(cpu);
    if (table === NO_TABLE) return "no memory";
    const lo = yield* cpu.read64(entry);
    const { hi } = cpu;
    if (format.entryKind(lo, level) !== ENTRY_LEAF) {
      this.free(cpu, [table]);
      return "lost";
    }
    const attributesLo = format.attributesOfLeafLo(lo, level + 1);
    const attributesHi = format.attributesOfLeafHi(hi);
    const paddr = format.leafAddress(lo, hi, level);
    for (let index = 0; index < format.tableEntries; index++) {
      if (index >= hole && index < hole + holeEntries) continue;
      const to = paddr + index * format.spanBytes[level + 1];
      const leaf = table + index * ENTRY_BYTES;
      yield* cpu.write64(leaf, format.leafLo(attributesLo, to), format.leafHi(attributesHi, to));
    }
    cpu.work(Work.pageTableEntry, format.tableEntries);
    this.writeBack(cpu, format.tableEntries);
    return (yield* this.#publish(cpu, entry, lo, hi, table)) ? "split" : "lost";
  }

  /**
   * Cleans the lines of `entries` to memory for walkers that do not snoop; a line is charged as
   * much as computing an entry.
   */
  writeBack(cpu: Cpu, entries: number): void {
    if (this.#format.writtenBackHi === 0) return;
    cpu.work(Work.pageTableEntry, Math.ceil(entries / ENTRIES_PER_LINE));
  }

  /** An empty table, or `NO_TABLE`. */
  *#allocate(cpu: Cpu): Routine<PhysicalAddress> {
    try {
      return yield* this.#frames.allocate(cpu, this.#tableBytes);
    } catch (error) {
      if (error instanceof OutOfFramesError) return NO_TABLE;
      throw error;
    }
  }

  /**
   * Replaces (expectedLo, expectedHi) in `entry` by `table`. When another CPU was first, `table`
   * is freed and false returned.
   */
  *#publish(
    cpu: Cpu,
    entry: PhysicalAddress,
    expectedLo: number,
    expectedHi: number,
    table: PhysicalAddress,
  ): Routine<boolean> {
    const format = this.#format;
    const lo = format.tableEntryLo(table);
    const hi = format.tableEntryHi(table);
    // Its contents are in memory before a walker can follow the entry.
    yield* cpu.fence("device-write");
    const foundLo = yield* cpu.compareExchange64(entry, expectedLo, expectedHi, lo, hi, "relaxed");
    const won = foundLo === expectedLo && cpu.hi === expectedHi;
    if (!won) this.free(cpu, [table]);
    if (format.writtenBackHi !== 0) {
      // Whoever put it there: writing it back here is quicker than waiting for the winner.
      this.writeBack(cpu, 1);
      if (won) yield* cpu.write64(entry, lo, hi | format.writtenBackHi);
    }
    return won;
  }

  /** Adds every table below `table`, a table at `level`, to `into`. */
  *collectBelow(cpu: Cpu, table: PhysicalAddress, level: number, into: PhysicalAddress[]): Routine {
    const format = this.#format;
    if (level === format.lastLevel) return;
    const entries = level === format.topLevel ? format.topEntries : format.tableEntries;
    for (let index = 0; index < entries; index++) {
      const lo = yield* cpu.read64(table + index * ENTRY_BYTES);
      if (format.entryKind(lo, level) !== ENTRY_TABLE) continue;
      const below = format.tableAddress(lo, cpu.hi);
      into.push(below);
      yield* this.collectBelow(cpu, below, level + 1, into);
    }
  }
}
