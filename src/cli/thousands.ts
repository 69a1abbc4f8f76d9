/** How tables show numbers that may be large. */

/** Whole, in groups of three: 14,000. */
export function thousands(value: number): string {
  return Math.round(value)
    .toString()
    .replace(/\B(?=(\d{3})+$)/g, ",");
}
