/**
 * What a page-table format tells the generic table (`radix-table.ts`): the geometry of
 * its levels and what the two halves of an entry mean. A format is pure data and pure
 * functions, one module per format; it never touches memory.
 *
 * Words used here and in the table. A *table* is an array of 8-byte *entries*; an entry is
 * empty (both halves 0), points to a table of the next level, or is a *leaf*. The *span* of
 * a level is the bytes of IOVA that one of its entries covers. Levels are numbered as the
 * format numbers them, growing towards the last, where every entry is a leaf.
 */

import type { PhysicalAddress } from "#machine";

/** What an entry is at its level. */
export type EntryKind = 0 | 1 | 2;
export const ENTRY_INVALID = 0;
export const ENTRY_TABLE = 1;
export const ENTRY_LEAF = 2;

export const ENTRY_BYTES = 8;

export interface TableFormat {
  readonly name: string;
  readonly topLevel: number;
  readonly lastLevel: number;
  /** Entries of the top table, and of every other one: powers of two. */
  readonly topEntries: number;
  readonly tableEntries: number;
  /** By level. */
  readonly spanBytes: readonly number[];
  /** Bytes of a leaf by level; 0 where no leaf may stand. */
  readonly leafBytes: readonly number[];
  readonly pageSizesBytes: readonly number[];
  /** Inclusive. */
  readonly lastIova: number;
  readonly lastPaddr: number;
  /**
   * Bit of a table entry's high half that says "written back to memory", for walkers that do
   * not snoop the CPU's caches; 0 where walks are coherent.
   */
  readonly writtenBackHi: number;

  entryKind(lo: number, level: number): EntryKind;
  tableAddress(lo: number, hi: number): PhysicalAddress;
  leafAddress(lo: number, hi: number, level: number): PhysicalAddress;
  /** An entry that points to `table`; the high half without `writtenBackHi`. */
  tableEntryLo(table: PhysicalAddress): number;
  tableEntryHi(table: PhysicalAddress): number;
  /** A leaf is its attributes with its address in them. */
  leafLo(attributesLo: number, paddr: PhysicalAddress): number;
  leafHi(attributesHi: number, paddr: PhysicalAddress): number;
  /** Attributes that stand for `protection` in a leaf at `level`. */
  attributesLo(protection: number, level: number): number;
  attributesHi(protection: number): number;
  /** Attributes of an existing leaf, for one of another level. */
  attributesOfLeafLo(lo: number, level: number): number;
  attributesOfLeafHi(hi: number): number;
  /** What a leaf allows, as `Protection` bits. */
  protectionOf(lo: number, hi: number): number;
}
