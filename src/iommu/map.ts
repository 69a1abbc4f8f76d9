/**
 * Maps physically contiguous ranges into a domain, in the largest page sizes that fit
 * (kernel: iommu_map() and iommu_map_sg() in drivers/iommu/iommu.c).
 *
 * All or nothing: what was mapped before a failure is unmapped again.
 */

import { assert, type Cpu, type Iova, type PhysicalAddress, type Routine } from "#machine";
import type { PagingDomain } from "./driver.js";
import { choosePageSize, countPages, isMultiple } from "./page-size.js";
import { MapStatus, type MapStatusCode, statusOf } from "./status.js";
import { iommuUnmap } from "./unmap.js";

/** A piece of memory that a list is made of. */
export interface PhysicalRange {
  readonly paddr: PhysicalAddress;
  readonly sizeBytes: number;
}

/** Maps `sizeBytes` at `iova`; `protection` is bits of `Protection`. Returns a `MapStatus`. */
export function* iommuMap(
  cpu: Cpu,
  domain: PagingDomain,
  iova: Iova,
  paddr: PhysicalAddress,
  sizeBytes: number,
  protection: number,
): Routine<MapStatusCode> {
  const sizes = domain.pageSizesBytes;
  const smallest = sizes[0];
  if (sizeBytes <= 0 || !isMultiple(sizeBytes, smallest)) return MapStatus.invalid;
  if (!isMultiple(iova, smallest) || !isMultiple(paddr, smallest)) return MapStatus.invalid;
  let doneBytes = 0;
  while (doneBytes < sizeBytes) {
    const to = iova + doneBytes;
    const from = paddr + doneBytes;
    const restBytes = sizeBytes - doneBytes;
    const size = choosePageSize(sizes, to, from, restBytes);
    const pages = countPages(sizes, size, to, from, restBytes);
    const mappedBytes = yield* domain.mapPages(cpu, to, from, sizes[size], pages, protection);
    doneBytes += mappedBytes;
    if (mappedBytes < pages * sizes[size]) {
      // Read at once, before the undo lets another CPU's map in this domain replace it.
      const { failure } = domain;
      assert(failure !== undefined, "a map that stopped early says why");
      if (doneBytes > 0) yield* iommuUnmap(cpu, domain, iova, doneBytes);
      return statusOf(failure);
    }
  }
  return MapStatus.mapped;
}

/**
 * Maps the first `count` elements one after the other at `iova`. Elements that lie one
 * behind the other in memory are mapped as one range, so that they may share a large page.
 * Returns the bytes mapped, or a negative `MapStatus`.
 */
export function* iommuMapSg(
  cpu: Cpu,
  domain: PagingDomain,
  iova: Iova,
  elements: readonly PhysicalRange[],
  count: number,
  protection: number,
): Routine<number> {
  let mappedBytes = 0;
  for (let index = 0; index < count; ) {
    const { paddr } = elements[index];
    let rangeBytes = elements[index].sizeBytes;
    index++;
    while (index < count && elements[index].paddr === paddr + rangeBytes) {
      rangeBytes += elements[index].sizeBytes;
      index++;
    }
    const at = iova + mappedBytes;
    const status = yield* iommuMap(cpu, domain, at, paddr, rangeBytes, protection);
    if (status !== MapStatus.mapped) {
      if (mappedBytes > 0) yield* iommuUnmap(cpu, domain, iova, mappedBytes);
      return status;
    }
    mappedBytes += rangeBytes;
  }
  return mappedBytes;
}
