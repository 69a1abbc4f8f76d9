/** Codes of sizes that stream table entries and context descriptors have in common. */

import { OUTPUT_SIZE_BITS } from "#arch/lpae";

/** PS, IPS, OAS. */
export const OUTPUT_SIZES: readonly string[] = OUTPUT_SIZE_BITS.map(
  (bits) => `${bits}-bit output addresses`,
);

/** T0SZ, T1SZ, S2T0SZ. */
export const T0SZ_TEXT = (value: number): string => `${64 - value}-bit input addresses`;
