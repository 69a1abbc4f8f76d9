/**
 * What a 4 KiB-granule table must hold, kept as plain maps: leaves by IOVA, and which
 * tables exist, since those stay when they run empty and are replaced by blocks.
 */

import type { Iova, PhysicalAddress } from "#machine";
import type { PartOfBlock } from "../radix-table.js";

/** Bytes that an entry covers, by level. */
export const SPAN_BYTES = [2 ** 39, 2 ** 30, 2 ** 21, 2 ** 12] as const;
const TABLE_ENTRIES = 512;

export interface OracleLeaf {
  readonly paddr: PhysicalAddress;
  readonly sizeBytes: number;
  readonly protection: number;
}

export class TableOracle {
  readonly leaves = new Map<Iova, OracleLeaf>();
  /** `level:first IOVA` of every table below the top. */
  readonly tables = new Set<string>();
  readonly #partOfBlock: PartOfBlock;

  constructor(partOfBlock: PartOfBlock) {
    this.#partOfBlock = partOfBlock;
  }

  /** Returns the bytes that get mapped. */
  map(
    iova: Iova,
    paddr: PhysicalAddress,
    pageBytes: number,
    count: number,
    protection: number,
  ): number {
    const leafLevel = SPAN_BYTES.indexOf(pageBytes as (typeof SPAN_BYTES)[number]);
    let done = 0;
    while (done < count) {
      const at = iova + done * pageBytes;
      for (let level = 0; level < leafLevel; level++) {
        const base = floorTo(at, SPAN_BYTES[level]);
        if (this.leaves.get(base)?.sizeBytes === SPAN_BYTES[level]) return done * pageBytes;
        this.tables.add(`${level + 1}:${base}`);
      }
      const run = Math.min(count - done, entriesToEnd(at, leafLevel));
      for (let page = 0; page < run; page++) {
        const slot = at + page * pageBytes;
        if (this.leaves.get(slot)?.sizeBytes === pageBytes) return done * pageBytes;
        this.#dropTable(slot, leafLevel);
      }
      for (let page = 0; page < run; page++) {
        const to = paddr + (done + page) * pageBytes;
        const leaf = { paddr: to, sizeBytes: pageBytes, protection };
        this.leaves.set(at + page * pageBytes, leaf);
      }
      done += run;
    }
    return done * pageBytes;
  }

  /** Returns the bytes that get unmapped. */
  unmap(iova: Iova, pageBytes: number, count: number): number {
    const leafLevel = SPAN_BYTES.indexOf(pageBytes as (typeof SPAN_BYTES)[number]);
    for (let page = 0; page < count; page++) {
      const slot = iova + page * pageBytes;
      for (let level = 0; level < leafLevel; level++) {
        const base = floorTo(slot, SPAN_BYTES[level]);
        const block = this.leaves.get(base);
        if (block?.sizeBytes !== SPAN_BYTES[level]) continue;
        if (this.#partOfBlock === "refuse") return page * pageBytes;
        this.#split(base, block, level);
      }
      if (this.leaves.get(slot)?.sizeBytes === pageBytes) this.leaves.delete(slot);
      else if (!this.#dropTable(slot, leafLevel)) return page * pageBytes;
    }
    return count * pageBytes;
  }

  /** -1 where nothing is mapped. */
  translate(iova: Iova): PhysicalAddress {
    for (const span of SPAN_BYTES) {
      const base = floorTo(iova, span);
      const leaf = this.leaves.get(base);
      if (leaf?.sizeBytes === span) return leaf.paddr + (iova - base);
    }
    return -1;
  }

  #split(base: Iova, block: OracleLeaf, level: number): void {
    const sizeBytes = SPAN_BYTES[level + 1];
    this.leaves.delete(base);
    this.tables.add(`${level + 1}:${base}`);
    for (let index = 0; index < TABLE_ENTRIES; index++) {
      const offset = index * sizeBytes;
      const leaf = { ...block, paddr: block.paddr + offset, sizeBytes };
      this.leaves.set(base + offset, leaf);
    }
  }

  /** Removes the table in the slot of `level` with all below it; false when there is none. */
  #dropTable(slot: Iova, level: number): boolean {
    if (!this.tables.has(`${level + 1}:${slot}`)) return false;
    const end = slot + SPAN_BYTES[level];
    for (const iova of this.leaves.keys()) {
      if (iova >= slot && iova < end) this.leaves.delete(iova);
    }
    for (const table of this.tables) {
      const [tableLevel, base] = table.split(":").map(Number);
      if (tableLevel > level && base >= slot && base < end) this.tables.delete(table);
    }
    return true;
  }
}

function floorTo(address: number, sizeBytes: number): number {
  return address - (address % sizeBytes);
}

/** Entries from that of `iova` to the end of its table. */
function entriesToEnd(iova: Iova, level: number): number {
  return TABLE_ENTRIES - ((iova / SPAN_BYTES[level]) % TABLE_ENTRIES);
}
