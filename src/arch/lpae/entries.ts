/**
 * Entries of the Arm 64-bit translation tables, as pairs of 32-bit halves.
 *
 * Bit positions are those of Arm DDI 0487, D8.3 (VMSAv8-64 descriptor formats). Masks
 * named `Lo…` belong to bits 31:0, `Hi…` to bits 63:32.
 */

import { hiHalf, loHalf } from "../field.js";
import { blockAllowed, GRANULE_64K_LG2, type GranuleLg2, LAST_LEVEL } from "./granule.js";

const TWO_32 = 2 ** 32;

/** Bits 1:0 of an entry. 0 and 2 are invalid. */
export const ENTRY_TYPE_MASK = 3;
export const ENTRY_BLOCK = 1;
/** A table at levels 0..2. */
export const ENTRY_TABLE = 3;
/** A page at level 3. */
export const ENTRY_PAGE = 3;

/** What an entry is at its level. */
export const EntryKind = { invalid: 0, table: 1, leaf: 2 } as const;
export type EntryKind = (typeof EntryKind)[keyof typeof EntryKind];

/** Leaf attributes in bits 31:0 (stage 1 unless said otherwise). */
export const LO_ATTR_INDEX_SHIFT = 2;
export const LO_ATTR_INDEX_MASK = 0x7 << LO_ATTR_INDEX_SHIFT;
export const LO_NS = 1 << 5;
/** AP[1]: unprivileged access allowed. */
export const LO_AP_UNPRIVILEGED = 1 << 6;
/** AP[2]: read only. */
export const LO_AP_READ_ONLY = 1 << 7;
export const LO_SH_SHIFT = 8;
export const LO_SH_MASK = 3 << LO_SH_SHIFT;
/** Access flag: clear makes the first access fault. */
export const LO_AF = 1 << 10;
/** nG: the entry belongs to one ASID only. */
export const LO_NOT_GLOBAL = 1 << 11;
/** Stage 2: MemAttr, and S2AP in place of AP. */
export const LO_S2_MEM_ATTR_SHIFT = 2;
export const LO_S2_MEM_ATTR_MASK = 0xf << LO_S2_MEM_ATTR_SHIFT;
export const LO_S2_READ = 1 << 6;
export const LO_S2_WRITE = 1 << 7;

/** Leaf attributes in bits 63:32. */
/** DBM, bit 51: a read-only leaf that hardware may make writable. */
export const HI_DBM = 1 << 19;
/** Bit 52. */
export const HI_CONTIGUOUS = 1 << 20;
/** Bit 53, privileged execute never. */
export const HI_PXN = 1 << 21;
/** Bit 54, unprivileged execute never (XN where there is one privilege level). */
export const HI_UXN = 1 << 22;
/** Bit 55, for software; the kernel marks table entries that non-coherent walkers can see. */
export const HI_SOFTWARE_SYNC = 1 << 23;

/** Table attributes in bits 63:32; they limit everything below the table. */
/** Bit 59. */
export const HI_PXN_TABLE = 1 << 27;
/** Bit 60. */
export const HI_XN_TABLE = 1 << 28;
/** APTable[0], bit 61: no unprivileged access below. */
export const HI_AP_TABLE_NO_UNPRIVILEGED = 1 << 29;
/** APTable[1], bit 62: no writes below. */
export const HI_AP_TABLE_READ_ONLY = 1 << 30;
/** Bit 63. */
export const HI_NS_TABLE = 1 << 31;

/** Shareability of a leaf and of table walks. */
export const SHAREABILITY_NON = 0;
export const SHAREABILITY_OUTER = 2;
export const SHAREABILITY_INNER = 3;

/**
 * What the low half says at `level`. Reserved encodings (a block where none may be) count as
 * invalid: the architecture makes them translation faults.
 */
export function entryKind(
  lo: number,
  level: number,
  granuleLg2: GranuleLg2,
  outputBits: number,
): EntryKind {
  const type = lo & ENTRY_TYPE_MASK;
  if (type === ENTRY_TABLE) return level === LAST_LEVEL ? EntryKind.leaf : EntryKind.table;
  const block = type === ENTRY_BLOCK && blockAllowed(granuleLg2, level, outputBits);
  return block ? EntryKind.leaf : EntryKind.invalid;
}

/** Physical address in an entry: next table, or output of a leaf of 2^`alignLg2` bytes. */
export function entryAddress(
  lo: number,
  hi: number,
  granuleLg2: GranuleLg2,
  alignLg2: number,
): number {
  // With 64K granules bits 15:12 hold address bits 51:48 (zero where addresses have 48 bits).
  const above48 = granuleLg2 === GRANULE_64K_LG2 ? ((lo >>> 12) & 0xf) << 16 : 0;
  const high = (hi & 0xffff) | above48;
  if (alignLg2 < 32) return high * TWO_32 + ((lo & (-1 << alignLg2)) >>> 0);
  return ((high & (-1 << (alignLg2 - 32))) >>> 0) * TWO_32;
}

/** Low half of an entry's address bits; `address` is aligned to the granule. */
export function addressLo(address: number, granuleLg2: GranuleLg2): number {
  const above48 = granuleLg2 === GRANULE_64K_LG2 ? ((hiHalf(address) >>> 16) & 0xf) << 12 : 0;
  return (loHalf(address) | above48) >>> 0;
}

/** High half of an entry's address bits. */
export function addressHi(address: number): number {
  return hiHalf(address) & 0xffff;
}

/** Bits 1:0 of a leaf at `level`. */
export function leafType(level: number): number {
  return level === LAST_LEVEL ? ENTRY_PAGE : ENTRY_BLOCK;
}

/** Attribute bits 11:2 of a stage-1 leaf: accessed, of one ASID. Stage 1 cannot forbid reads. */
export function stage1AttributesLo(
  writable: boolean,
  privilegedOnly: boolean,
  attrIndex: number,
  shareability: number,
): number {
  return (
    LO_AF |
    LO_NOT_GLOBAL |
    (attrIndex << LO_ATTR_INDEX_SHIFT) |
    (shareability << LO_SH_SHIFT) |
    (writable ? 0 : LO_AP_READ_ONLY) |
    (privilegedOnly ? 0 : LO_AP_UNPRIVILEGED)
  );
}

/** Attribute bits 11:2 of a stage-2 leaf. */
export function stage2AttributesLo(
  readable: boolean,
  writable: boolean,
  memAttr: number,
  shareability: number,
): number {
  return (
    LO_AF |
    (memAttr << LO_S2_MEM_ATTR_SHIFT) |
    (shareability << LO_SH_SHIFT) |
    (readable ? LO_S2_READ : 0) |
    (writable ? LO_S2_WRITE : 0)
  );
}

/** Attribute bits 63:32 of a leaf, both stages: only whether code may be fetched. */
export function leafAttributesHi(executable: boolean): number {
  return executable ? 0 : HI_PXN | HI_UXN;
}
