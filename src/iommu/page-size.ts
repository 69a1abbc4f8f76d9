/**
 * Which of the hardware's page sizes a map or unmap uses next, and how many pages of it
 * (kernel: iommu_pgsize() in drivers/iommu/iommu.c).
 *
 * Sizes are powers of two in bytes, ascending. Page size and count are two plain
 * functions, so that the loop that needs both allocates nothing.
 */

import { assert, hex, type Iova, type PhysicalAddress } from "#machine";

/** Division and floor instead of `%`, whose remainder above 2^31 is a slow library call. */
export function isMultiple(value: number, sizeBytes: number): boolean {
  return Math.floor(value / sizeBytes) * sizeBytes === value;
}

/**
 * Index of the largest size that is no larger than `sizeBytes` and to which both addresses
 * are aligned. All three must be multiples of the smallest size, and `sizeBytes` not 0.
 */
export function choosePageSize(
  pageSizesBytes: readonly number[],
  iova: Iova,
  paddr: PhysicalAddress,
  sizeBytes: number,
): number {
  for (let index = pageSizesBytes.length - 1; index > 0; index--) {
    const pageBytes = pageSizesBytes[index];
    if (pageBytes > sizeBytes) continue;
    if (isMultiple(iova, pageBytes) && isMultiple(paddr, pageBytes)) return index;
  }
  if (pageSizesBytes[0] > sizeBytes) {
    assert(false, `at least one page is left of the ${hex(sizeBytes)} bytes at ${hex(iova)}`);
  }
  return 0;
}

/**
 * Pages of the chosen size up to where the next larger size becomes possible, or to the
 * end of the range. A larger page further on is possible only where the addresses agree
 * modulo its size and the whole of it lies in the range.
 */
export function countPages(
  pageSizesBytes: readonly number[],
  index: number,
  iova: Iova,
  paddr: PhysicalAddress,
  sizeBytes: number,
): number {
  const pageBytes = pageSizesBytes[index];
  if (index + 1 < pageSizesBytes.length) {
    const nextBytes = pageSizesBytes[index + 1];
    // No page of the next size can begin within less than two of this one.
    if (sizeBytes > nextBytes && isMultiple(iova - paddr, nextBytes)) {
      const headBytes = nextBytes - (iova - Math.floor(iova / nextBytes) * nextBytes);
      if (headBytes + nextBytes <= sizeBytes) return headBytes / pageBytes;
    }
  }
  return Math.floor(sizeBytes / pageBytes);
}
