import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Histogram } from "./histogram.js";

describe("histogram", () => {
  it("gives any quantile within 1/64 and the mean exactly", () => {
    const values = fc.array(fc.double({ min: 1, max: 1e9, noNaN: true }), { minLength: 1 });
    fc.assert(
      fc.property(values, fc.double({ min: 0, max: 1, noNaN: true }), (all, fraction) => {
        const histogram = new Histogram();
        for (const value of all) histogram.add(value);
        const sorted = [...all].sort((a, b) => a - b);
        const exact = sorted[Math.max(1, Math.ceil(fraction * all.length)) - 1];
        const got = histogram.quantileNs(fraction);
        expect(got).toBeGreaterThanOrEqual(exact * (1 - 1e-9));
        expect(got).toBeLessThanOrEqual(exact * 2 ** (1 / 64) * (1 + 1e-9));
        const mean = all.reduce((sum, value) => sum + value, 0) / all.length;
        expect(histogram.meanNs).toBeCloseTo(mean, 3);
        expect(histogram.maxNs).toBe(sorted[sorted.length - 1]);
      }),
    );
  });

  it("gives zeros for no values", () => {
    const histogram = new Histogram();
    expect([histogram.meanNs, histogram.quantileNs(0.99)]).toEqual([0, 0]);
  });
});
