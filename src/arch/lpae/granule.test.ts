import { describe, expect, it } from "vitest";
import {
  GRANULE_4K_LG2,
  GRANULE_16K_LG2,
  GRANULE_64K_LG2,
  stage2Sl0,
  stage2StartIsLegal,
  stage2StartLevel,
} from "./granule.js";

const GRANULES = [GRANULE_4K_LG2, GRANULE_16K_LG2, GRANULE_64K_LG2] as const;

describe("where a stage-2 walk starts (DDI 0487, VTCR_EL2.SL0)", () => {
  it.each([
    ["4 KiB", GRANULE_4K_LG2, [2, 1, 0, -1]],
    ["16 KiB", GRANULE_16K_LG2, [3, 2, 1, -1]],
    ["64 KiB", GRANULE_64K_LG2, [3, 2, 1, -1]],
  ] as const)("%s: SL0 0 to 3", (_name, granuleLg2, levels) => {
    expect([0, 1, 2, 3].map((sl0) => stage2StartLevel(granuleLg2, sl0))).toEqual(levels);
  });

  it("the code of a level leads back to it", () => {
    for (const granuleLg2 of GRANULES) {
      for (const sl0 of [0, 1, 2]) {
        expect(stage2Sl0(granuleLg2, stage2StartLevel(granuleLg2, sl0))).toBe(sl0);
      }
    }
  });

  /** Sizes of input that may start there, on a machine of 48 bits: the first and the last. */
  it.each([
    ["4 KiB, level 2", GRANULE_4K_LG2, 2, 22, 34],
    ["4 KiB, level 1", GRANULE_4K_LG2, 1, 31, 43],
    ["4 KiB, level 0", GRANULE_4K_LG2, 0, 40, 52],
    ["16 KiB, level 2", GRANULE_16K_LG2, 2, 26, 40],
    ["16 KiB, level 1", GRANULE_16K_LG2, 1, 37, 51],
    ["64 KiB, level 2", GRANULE_64K_LG2, 2, 30, 46],
  ] as const)("%s: from one bit of the first table to sixteen tables", (...of) => {
    const [, granuleLg2, level, first, last] = of;
    const legal = Array.from({ length: 53 }, (_, bits) => bits).filter((bits) =>
      stage2StartIsLegal(granuleLg2, bits, level, 48),
    );
    expect([legal[0], legal.at(-1), legal.length]).toEqual([first, last, last - first + 1]);
  });

  it.each([
    ["4 KiB, level 0", GRANULE_4K_LG2, 0, 42, 44],
    ["16 KiB, level 1", GRANULE_16K_LG2, 1, 40, 42],
    ["64 KiB, level 1", GRANULE_64K_LG2, 1, 42, 44],
  ] as const)("%s is for larger machines only", (_name, granuleLg2, level, small, large) => {
    const inputBits = 43;
    expect(stage2StartIsLegal(granuleLg2, inputBits, level, small)).toBe(false);
    expect(stage2StartIsLegal(granuleLg2, inputBits, level, large)).toBe(true);
  });
});
