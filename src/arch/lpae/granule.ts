/**
 * Geometry of the Arm 64-bit translation tables: granules, levels, block sizes.
 *
 * A table fills one granule with 8-byte entries. Levels are numbered 0..3, 3 is the
 * last (Arm DDI 0487, D8.2). Sizes are log2 throughout, since they exceed 32 bits.
 */

/** log2 of the granule in bytes. */
export const GRANULE_4K_LG2 = 12;
export const GRANULE_16K_LG2 = 14;
export const GRANULE_64K_LG2 = 16;
export type GranuleLg2 = 12 | 14 | 16;

/** 2^n by n: addresses exceed 32 bits, and computing a power takes longer than a walk's step. */
export const POWERS_OF_TWO: readonly number[] = Array.from({ length: 64 }, (_, lg2) => 2 ** lg2);

export const ENTRY_BYTES = 8;
const ENTRY_BYTES_LG2 = 3;
export const LAST_LEVEL = 3;

/** Address bits that one level resolves: log2 of the entries of a table. */
export function bitsPerLevel(granuleLg2: GranuleLg2): number {
  return granuleLg2 - ENTRY_BYTES_LG2;
}

/** log2 of the bytes that one entry at `level` covers: the size of a leaf there. */
export function levelSizeLg2(granuleLg2: GranuleLg2, level: number): number {
  return granuleLg2 + (LAST_LEVEL - level) * bitsPerLevel(granuleLg2);
}

/** The level at which a walk of `inputBits` bits of address starts (without concatenation). */
export function startLevel(granuleLg2: GranuleLg2, inputBits: number): number {
  const levels = Math.ceil((inputBits - granuleLg2) / bitsPerLevel(granuleLg2));
  return LAST_LEVEL + 1 - Math.max(1, levels);
}

/** Entries of the table at the start level; smaller than a full table when bits are left over. */
export function topTableEntries(granuleLg2: GranuleLg2, inputBits: number): number {
  return 2 ** Math.max(0, inputBits - levelSizeLg2(granuleLg2, startLevel(granuleLg2, inputBits)));
}

/** Index of `address` into a table at `level`; the top table may use fewer bits of it. */
export function tableIndex(granuleLg2: GranuleLg2, level: number, address: number): number {
  const entries = 1 << bitsPerLevel(granuleLg2);
  const entryBytes = POWERS_OF_TWO[levelSizeLg2(granuleLg2, level)];
  return Math.floor(address / entryBytes) & (entries - 1);
}

/** SL0 values that do not exist without small tables (4K) or 52-bit descriptors (16K). */
const SL0_RESERVED = 3;

/** The level at which a stage-2 walk starts, by SL0 (VTCR_EL2.SL0); -1 when SL0 is reserved. */
export function stage2StartLevel(granuleLg2: GranuleLg2, sl0: number): number {
  if (sl0 === SL0_RESERVED) return -1;
  return (granuleLg2 === GRANULE_4K_LG2 ? 2 : 3) - sl0;
}

/** SL0 of a stage-2 walk that starts at `level`. */
export function stage2Sl0(granuleLg2: GranuleLg2, level: number): number {
  return (granuleLg2 === GRANULE_4K_LG2 ? 2 : 3) - level;
}

/** log2 of how many tables can stand side by side where a stage-2 walk starts. */
export const STAGE2_CONCATENATED_LG2_MAX = 4;

/**
 * Whether a stage-2 walk of `inputBits` may start at `level`: the first table resolves at
 * least one bit, at most 16 tables are concatenated, and small machines leave out the top
 * level (DDI 0487, AArch64.S2InconsistentSL and S2InvalidSL).
 */
export function stage2StartIsLegal(
  granuleLg2: GranuleLg2,
  inputBits: number,
  level: number,
  physicalBits: number,
): boolean {
  const bits = inputBits - levelSizeLg2(granuleLg2, level);
  if (bits < 1 || bits > bitsPerLevel(granuleLg2) + STAGE2_CONCATENATED_LG2_MAX) return false;
  if (granuleLg2 === GRANULE_4K_LG2) return level > 0 || physicalBits >= 44;
  return level > 1 || physicalBits >= (granuleLg2 === GRANULE_16K_LG2 ? 42 : 44);
}

/**
 * Whether a block may stand at `level` (< 3). Level-1 blocks of 64K tables (4 TiB) exist with
 * 52-bit addresses only; level-0 blocks would need FEAT_LPA2, which the SMMU calls DS.
 */
export function blockAllowed(granuleLg2: GranuleLg2, level: number, outputBits: number): boolean {
  if (level === 2) return true;
  if (level !== 1) return false;
  return granuleLg2 === GRANULE_4K_LG2 || (granuleLg2 === GRANULE_64K_LG2 && outputBits === 52);
}

/** Leaf sizes in bytes, ascending. */
export function leafSizesBytes(granuleLg2: GranuleLg2, outputBits: number): readonly number[] {
  const sizes = [2 ** granuleLg2];
  for (let level = LAST_LEVEL - 1; level >= 0; level--) {
    if (blockAllowed(granuleLg2, level, outputBits)) {
      sizes.push(2 ** levelSizeLg2(granuleLg2, level));
    }
  }
  return sizes;
}

/** The level whose leaves have this size; -1 when there is none. */
export function levelOfLeaf(granuleLg2: GranuleLg2, leafBytes: number): number {
  for (let level = LAST_LEVEL; level >= 0; level--) {
    if (2 ** levelSizeLg2(granuleLg2, level) === leafBytes) return level;
  }
  return -1;
}
