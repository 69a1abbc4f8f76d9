/** IOVA ranges that the DMA API must not hand out (kernel: struct iommu_resv_region). */

import type { Cpu, Iova, Routine } from "#machine";
import type { PagingDomain } from "./driver.js";
import { iommuMap } from "./map.js";
import { MapStatus, type MapStatusCode } from "./status.js";

/**
 * `direct`: firmware uses the memory by DMA, so it is mapped 1:1; `direct-relaxable`: the same
 * until a driver takes the device over. `msi`: the hardware takes writes there for interrupts.
 * `software-msi`: the window in which the core itself places MSI doorbells.
 */
export type ReservedKind = "direct" | "direct-relaxable" | "reserved" | "msi" | "software-msi";

export interface ReservedRegion {
  readonly kind: ReservedKind;
  readonly first: Iova;
  /** Inclusive. */
  readonly last: Iova;
  /** `Protection` bits of a direct region. */
  readonly protection: number;
}

/** Whether an IOVA allocator has to leave the region out. */
export function isKeptFromAllocator({ kind }: ReservedRegion): boolean {
  return kind !== "software-msi";
}

/**
 * Maps the direct regions 1:1 in a domain that no device uses yet, so that DMA under way goes
 * on when devices are attached. Regions of several devices may overlap.
 */
export function* mapDirectRegions(
  cpu: Cpu,
  domain: PagingDomain,
  regions: readonly ReservedRegion[],
): Routine<MapStatusCode> {
  const pageBytes = domain.pageSizesBytes[0];
  for (const { kind, first, last, protection } of regions) {
    if (kind !== "direct" && kind !== "direct-relaxable") continue;
    const end = Math.ceil((last + 1) / pageBytes) * pageBytes;
    let iova = Math.floor(first / pageBytes) * pageBytes;
    while (iova < end) {
      let runEnd = iova;
      while (runEnd < end && (yield* domain.iovaToPhys(cpu, runEnd)) < 0) runEnd += pageBytes;
      if (runEnd > iova) {
        const status = yield* iommuMap(cpu, domain, iova, iova, runEnd - iova, protection);
        if (status !== MapStatus.mapped) return status;
      }
      // The page at the end of the run is mapped already, or behind the region.
      iova = runEnd + pageBytes;
    }
  }
  return MapStatus.mapped;
}
