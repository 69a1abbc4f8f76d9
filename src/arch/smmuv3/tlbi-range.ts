/**
 * Arithmetic of range invalidation (Arm IHI 0070, 4.4.1; IDR3.RIL).
 *
 * A command covers (NUM + 1) * 2^SCALE translation granules from its address on. TG says
 * which granule; TG = 0 means a single address, and NUM, SCALE, TTL mean nothing then.
 */

/** Largest count that one command's NUM expresses: 5 bits, plus one. */
export const RANGE_UNITS_MAX = 32;
/** What Linux puts into one command: NUM up to 30 (`CMDQ_TLBI_RANGE_NUM_MAX`, 31 units). */
export const RANGE_UNITS_LINUX_MAX = 31;
export const SCALE_MAX = 31;
/** 64 KiB, the largest that TG names. */
const GRANULE_LG2_MAX = 16;
/** `**` is a call of the library, and each command needs some. */
const POWERS_OF_TWO = Array.from({ length: SCALE_MAX + GRANULE_LG2_MAX + 1 }, (_, n) => 2 ** n);

export const TG_NONE = 0;
export const TG_4K = 1;
export const TG_16K = 2;
export const TG_64K = 3;

/** TG of a granule of 2^12, 2^14 or 2^16 bytes. */
export function tgOfGranule(granuleLg2: number): number {
  return (granuleLg2 - 10) / 2;
}

/** log2 of the granule in bytes; `tg` is not 0. */
export function granuleOfTg(tg: number): number {
  return tg * 2 + 10;
}

/** Bytes that a range command covers; exact up to 2^53, which no VA range exceeds. */
export function rangeBytes(num: number, scale: number, granuleLg2: number): number {
  return (num + 1) * POWERS_OF_TWO[scale + granuleLg2];
}

/**
 * SCALE of the next command for a range of `granules` granules (below 2^36, a 48-bit space):
 * the largest power of two that divides the count, so that NUM has the rest only.
 */
export function rangeScale(granules: number): number {
  const lo = granules >>> 0;
  if (lo !== 0) return 31 - Math.clz32(lo & -lo);
  return SCALE_MAX;
}

/**
 * Units of 2^`scale` granules that the next command covers (NUM is one less): the low five
 * bits of the count, at least 1 because `scale` is its lowest bit set.
 */
export function rangeUnits(granules: number, scale: number): number {
  return Math.floor(granules / POWERS_OF_TWO[scale]) % 2 ** 5;
}

/**
 * TTL of a leaf of 2^`leafLg2` bytes in tables of this granule: the level, from 3 for a page
 * down to 1; 0 would mean that the level is unknown.
 */
export function ttlOfLeaf(leafLg2: number, granuleLg2: number): number {
  return 3 - Math.floor((leafLg2 - granuleLg2) / (granuleLg2 - 3));
}
