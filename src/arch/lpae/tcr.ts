/**
 * Encodings of a translation regime's controls (TCR fields, which an SMMU keeps in the
 * context descriptor and, for stage 2, in the stream table entry).
 */

import { GRANULE_4K_LG2, GRANULE_16K_LG2, GRANULE_64K_LG2, type GranuleLg2 } from "./granule.js";

/** TG0 (also S2TG): granule of the lower half. */
export const TG0_4K = 0;
export const TG0_64K = 1;
export const TG0_16K = 2;
/** TG1: granule of the upper half, encoded differently. */
export const TG1_16K = 1;
export const TG1_4K = 2;
export const TG1_64K = 3;

/** Cacheability of table walks (IRGN, ORGN). */
export const RGN_NON_CACHEABLE = 0;
export const RGN_WRITE_BACK_ALLOCATE = 1;
export const RGN_WRITE_THROUGH = 2;
export const RGN_WRITE_BACK_NO_WRITE_ALLOCATE = 3;

/** Output size in bits by PS/IPS/OAS code; higher codes are reserved. */
export const OUTPUT_SIZE_BITS = [32, 36, 40, 42, 44, 48, 52] as const;

const TG0_GRANULES = new Map<number, GranuleLg2>([
  [TG0_4K, GRANULE_4K_LG2],
  [TG0_64K, GRANULE_64K_LG2],
  [TG0_16K, GRANULE_16K_LG2],
]);

const TG1_GRANULES = new Map<number, GranuleLg2>([
  [TG1_16K, GRANULE_16K_LG2],
  [TG1_4K, GRANULE_4K_LG2],
  [TG1_64K, GRANULE_64K_LG2],
]);

/** Granule of a TG0 code; undefined when reserved. */
export function granuleOfTg0(code: number): GranuleLg2 | undefined {
  return TG0_GRANULES.get(code);
}

/** Granule of a TG1 code; undefined when reserved. */
export function granuleOfTg1(code: number): GranuleLg2 | undefined {
  return TG1_GRANULES.get(code);
}

export function tg0OfGranule(granuleLg2: GranuleLg2): number {
  if (granuleLg2 === GRANULE_4K_LG2) return TG0_4K;
  return granuleLg2 === GRANULE_16K_LG2 ? TG0_16K : TG0_64K;
}

export function tg1OfGranule(granuleLg2: GranuleLg2): number {
  if (granuleLg2 === GRANULE_4K_LG2) return TG1_4K;
  return granuleLg2 === GRANULE_16K_LG2 ? TG1_16K : TG1_64K;
}

/** Bits of an output-size code; reserved codes count as the largest, as the architecture allows. */
export function outputSizeBits(code: number): number {
  return OUTPUT_SIZE_BITS[Math.min(code, OUTPUT_SIZE_BITS.length - 1)];
}

/** Code of an output size; -1 when it has none. */
export function outputSizeCode(bits: number): number {
  return (OUTPUT_SIZE_BITS as readonly number[]).indexOf(bits);
}

/** T0SZ or T1SZ of a region of `inputBits` bits. */
export function txszOf(inputBits: number): number {
  return 64 - inputBits;
}
