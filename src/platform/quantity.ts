/** The numbers of a profile: each with its unit, and with where it comes from. */

export type Provenance =
  /** From a publication or a data sheet, named. */
  | { readonly kind: "quoted"; readonly source: string }
  /** Solved for so that named measurements come out. */
  | { readonly kind: "fitted"; readonly to: string }
  /** An engineer's estimate, with the reason. */
  | { readonly kind: "assumed"; readonly reason: string };

/**
 * Times are nanoseconds; counts are plain; a bandwidth is bytes per nanosecond (GB/s); a flag
 * is 1 or 0.
 */
export const UNITS = ["ns", "count", "bytes", "bytes/ns", "flag"] as const;
export type Unit = (typeof UNITS)[number];

/** One number of a profile. */
export interface Quantity {
  readonly value: number;
  readonly unit: Unit;
  readonly provenance: Provenance;
}

export function assumed(reason: string): Provenance {
  return { kind: "assumed", reason };
}

export function quoted(source: string): Provenance {
  return { kind: "quoted", source };
}

export function fitted(to: string): Provenance {
  return { kind: "fitted", to };
}

export function ns(value: number, provenance: Provenance): Quantity {
  return { value, unit: "ns", provenance };
}

export function count(value: number, provenance: Provenance): Quantity {
  return { value, unit: "count", provenance };
}

export function bytes(value: number, provenance: Provenance): Quantity {
  return { value, unit: "bytes", provenance };
}

export function bytesPerNs(value: number, provenance: Provenance): Quantity {
  return { value, unit: "bytes/ns", provenance };
}

export function flag(value: 0 | 1, provenance: Provenance): Quantity {
  return { value, unit: "flag", provenance };
}
