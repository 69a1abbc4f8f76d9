/** Slices last about as long whatever their units take. */

import fc from "fast-check";
import { expect, it } from "vitest";
import { Slices } from "./slices.js";

it("comes to 20 ms whatever a unit takes, and stays there when that changes", () => {
  // From a microsecond to what one unit alone takes too long with.
  const unitMs = fc.double({ min: 0.001, max: 19, noNaN: true });
  fc.assert(
    fc.property(unitMs, unitMs, (before, after) => {
      let nowMs = 0;
      const slices = new Slices(() => nowMs);
      const tookMs = (each: number): number => {
        const beganMs = nowMs;
        slices.run((units) => {
          nowMs += units * each;
          return false;
        });
        return nowMs - beganMs;
      };
      // 2^14 units fit in where one takes a microsecond: seven doublings of the first 128.
      for (const each of [before, after]) {
        for (let round = 0; round < 20; round++) tookMs(each);
        const settled = tookMs(each);
        expect(settled).toBeLessThanOrEqual(20.001);
        expect(settled).toBeGreaterThan(Math.min(9, each));
      }
    }),
  );
});

it("hands on whether the work is over", () => {
  const slices = new Slices(() => 0);
  expect(slices.run(() => false)).toBe(false);
  expect(slices.run(() => true)).toBe(true);
});
