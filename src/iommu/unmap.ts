/**
 * Takes a range out of a domain, in the largest page sizes that fit
 * (kernel: iommu_unmap() and iommu_unmap_fast() in drivers/iommu/iommu.c).
 *
 * What is cleared is noted in the caller's gather. Nobody may reuse the IOVAs or the
 * memory before an invalidation that covers the gather has completed.
 */

import type { Cpu, Iova, Routine } from "#machine";
import type { PagingDomain } from "./driver.js";
import { IotlbGather, syncGather } from "./gather.js";
import { choosePageSize, countPages, isMultiple } from "./page-size.js";

/**
 * Unmaps without invalidating; `gather.begin` was called by the caller, who syncs it or,
 * when it is queued, flushes the domain later. Returns the bytes unmapped: less than
 * `sizeBytes` where nothing is mapped, or where only part of a block would have to go.
 */
export function* iommuUnmapFast(
  cpu: Cpu,
  domain: PagingDomain,
  iova: Iova,
  sizeBytes: number,
  gather: IotlbGather,
): Routine<number> {
  const sizes = domain.pageSizesBytes;
  if (!isMultiple(iova, sizes[0]) || !isMultiple(sizeBytes, sizes[0])) return 0;
  let doneBytes = 0;
  while (doneBytes < sizeBytes) {
    const at = iova + doneBytes;
    const restBytes = sizeBytes - doneBytes;
    const size = choosePageSize(sizes, at, at, restBytes);
    const pages = countPages(sizes, size, at, at, restBytes);
    const clearedBytes = yield* domain.unmapPages(cpu, at, sizes[size], pages, gather);
    if (clearedBytes === 0) break;
    doneBytes += clearedBytes;
  }
  return doneBytes;
}

/**
 * Unmaps and invalidates: when it returns, no TLB holds the range. Returns the bytes
 * unmapped. It makes a gather of its own; who unmaps all the time keeps one and calls
 * `iommuUnmapFast`.
 */
export function* iommuUnmap(
  cpu: Cpu,
  domain: PagingDomain,
  iova: Iova,
  sizeBytes: number,
): Routine<number> {
  const gather = new IotlbGather();
  const unmappedBytes = yield* iommuUnmapFast(cpu, domain, iova, sizeBytes, gather);
  yield* syncGather(cpu, domain, gather);
  return unmappedBytes;
}
