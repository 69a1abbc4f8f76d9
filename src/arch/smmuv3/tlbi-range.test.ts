import fc from "fast-check";
import { expect, it } from "vitest";
import * as range from "./tlbi-range.js";

it("the pieces of a range cover it exactly, one after another, each a valid command", () => {
  const granules = fc.oneof(
    fc.integer({ min: 1, max: 5000 }),
    fc.integer({ min: 1, max: 2 ** 36 - 1 }),
  );
  fc.assert(
    fc.property(granules, (total) => {
      let left = total;
      let pieces = 0;
      while (left > 0) {
        const scale = range.rangeScale(left);
        const units = range.rangeUnits(left, scale);
        expect(scale).toBeLessThanOrEqual(range.SCALE_MAX);
        expect(units).toBeGreaterThanOrEqual(1);
        expect(units).toBeLessThanOrEqual(range.RANGE_UNITS_LINUX_MAX);
        expect(range.rangeBytes(units - 1, scale, 12)).toBe(units * 2 ** scale * 4096);
        left -= units * 2 ** scale;
        pieces++;
      }
      expect(left).toBe(0);
      // Each piece takes five bits of the count.
      expect(pieces).toBeLessThanOrEqual(8);
    }),
  );
});

it("the scale is the largest power of two that divides the count", () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 31 }), fc.nat(2), (zeros, odd) => {
      const count = (2 * odd + 1) * 2 ** zeros;
      expect(range.rangeScale(count)).toBe(zeros);
    }),
  );
});

it("TG codes and granules translate to each other", () => {
  expect([12, 14, 16].map(range.tgOfGranule)).toEqual([range.TG_4K, range.TG_16K, range.TG_64K]);
  expect([1, 2, 3].map(range.granuleOfTg)).toEqual([12, 14, 16]);
});

it("TTL is the level of the leaf", () => {
  expect([12, 21, 30].map((leafLg2) => range.ttlOfLeaf(leafLg2, 12))).toEqual([3, 2, 1]);
  expect([14, 25].map((leafLg2) => range.ttlOfLeaf(leafLg2, 14))).toEqual([3, 2]);
  expect([16, 29].map((leafLg2) => range.ttlOfLeaf(leafLg2, 16))).toEqual([3, 2]);
});
