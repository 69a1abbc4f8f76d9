import fc from "fast-check";
import { expect, test } from "vitest";
import { choosePageSize, countPages, isMultiple } from "./page-size.js";

/** The rule as it is written down, in 64-bit integers and by trying every size. */
function oracle(
  sizes: readonly number[],
  iova: number,
  paddr: number,
  sizeBytes: number,
): { readonly pageBytes: number; readonly pages: number } {
  const merged = BigInt(iova) | BigInt(paddr);
  const fitting = sizes.filter(
    (size) => size <= sizeBytes && (merged === 0n || merged % BigInt(size) === 0n),
  );
  const pageBytes = Math.max(...fitting);
  const next = sizes.filter((size) => size > pageBytes).sort((a, b) => a - b)[0];
  let runBytes = sizeBytes;
  if (next !== undefined && BigInt(iova) % BigInt(next) === BigInt(paddr) % BigInt(next)) {
    const headBytes = next - Number(merged % BigInt(next));
    if (headBytes + next <= sizeBytes) runBytes = headBytes;
  }
  return { pageBytes, pages: Math.floor(runBytes / pageBytes) };
}

/** Sets of sizes that hardware has: Arm with each granule, AMD's every power of two, one only. */
const SIZE_SETS: readonly (readonly number[])[] = [
  [2 ** 12, 2 ** 21, 2 ** 30],
  [2 ** 14, 2 ** 25],
  [2 ** 16, 2 ** 29, 2 ** 42],
  Array.from({ length: 27 }, (_, index) => 2 ** (12 + index)),
  [2 ** 12],
];

const request = fc
  .record({
    sizes: fc.constantFrom(...SIZE_SETS),
    // Few bits around each size's alignment: most requests then sit near a boundary.
    iovaBits: fc.array(fc.integer({ min: 0, max: 35 }), { maxLength: 4 }),
    paddrBits: fc.array(fc.integer({ min: 0, max: 35 }), { maxLength: 4 }),
    sizeBits: fc.array(fc.integer({ min: 0, max: 31 }), { minLength: 1, maxLength: 4 }),
    congruent: fc.boolean(),
  })
  .map(({ sizes, iovaBits, paddrBits, sizeBits, congruent }) => {
    const unit = sizes[0];
    const sum = (bits: readonly number[]) =>
      [...new Set(bits)].reduce((total, bit) => total + 2 ** bit, 0) * unit;
    const iova = Math.min(sum(iovaBits), 2 ** 48);
    const paddr = congruent ? iova + 2 ** 43 : Math.min(sum(paddrBits), 2 ** 48);
    return { sizes, iova, paddr, sizeBytes: sum(sizeBits) };
  });

test("page size and count are those of the written rule", () => {
  fc.assert(
    fc.property(request, ({ sizes, iova, paddr, sizeBytes }) => {
      const index = choosePageSize(sizes, iova, paddr, sizeBytes);
      const pages = countPages(sizes, index, iova, paddr, sizeBytes);
      expect({ pageBytes: sizes[index], pages }).toEqual(oracle(sizes, iova, paddr, sizeBytes));
    }),
    { numRuns: 2000 },
  );
});

test("the runs of a range cover it once and in order", () => {
  fc.assert(
    fc.property(request, ({ sizes, iova, paddr, sizeBytes }) => {
      let doneBytes = 0;
      let runs = 0;
      while (doneBytes < sizeBytes) {
        const rest = sizeBytes - doneBytes;
        const index = choosePageSize(sizes, iova + doneBytes, paddr + doneBytes, rest);
        const pages = countPages(sizes, index, iova + doneBytes, paddr + doneBytes, rest);
        expect(pages).toBeGreaterThan(0);
        doneBytes += pages * sizes[index];
        runs++;
      }
      expect(doneBytes).toBe(sizeBytes);
      // Sizes rise to the largest that fits and fall again: each at most once on either side.
      expect(runs).toBeLessThanOrEqual(2 * sizes.length - 1);
    }),
    { numRuns: 500 },
  );
});

test("a run of small pages stops where a large one becomes possible", () => {
  const sizes = [2 ** 12, 2 ** 21, 2 ** 30];
  // From 4 KiB below 2 MiB: one small page up to the boundary, then the block.
  expect(choosePageSize(sizes, 0x1ff000, 0x401ff000, 0x201000)).toBe(0);
  expect(countPages(sizes, 0, 0x1ff000, 0x401ff000, 0x201000)).toBe(1);
  // One byte-page less behind it and the block would not fit: all small.
  expect(countPages(sizes, 0, 0x1ff000, 0x401ff000, 0x200000)).toBe(0x200);
});

test("asking for less than the smallest page is a mistake of the caller", () => {
  expect(() => choosePageSize([2 ** 12], 0, 0, 2048)).toThrow(/at least one page/);
});

test("isMultiple agrees with the remainder", () => {
  fc.assert(
    fc.property(fc.maxSafeNat(), fc.integer({ min: 12, max: 42 }), (value, sizeLg2) => {
      const rounded = value - (value % 2 ** sizeLg2);
      expect(isMultiple(value, 2 ** sizeLg2)).toBe(value === rounded);
      expect(isMultiple(rounded, 2 ** sizeLg2)).toBe(true);
    }),
  );
});
