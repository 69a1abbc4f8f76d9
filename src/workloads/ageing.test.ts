/** What ageing does to an allocator, with each kind of depot. */

import { describe, expect, it } from "vitest";
import { setDmaMask } from "#dma";
import { type DepotPolicy, type IovaDomain, UNBOUNDED_DEPOT } from "#iova";
import { genericArm } from "#platform";
import { ageIovas, IovaAgeError } from "./ageing.js";
import { createSystem } from "./system.js";

const CPUS = 4;
const MAGAZINE = 127;
const BOUNDED: DepotPolicy = { kind: "bounded", magazinesMax: 2 };
/** What CPUs and such a depot hold of one size. */
const HELD_MAX = (2 * CPUS + 2) * MAGAZINE;
/** Half of them of one page and a sixth of the others: several times what is held. */
const AGE = { ranges: 6000, pages: 1 };

function aged(depot: DepotPolicy, seed = 1) {
  const system = createSystem({ cpus: CPUS, profile: genericArm, seed, iovaDepot: depot });
  const { dma } = system.addDevice("device0");
  ageIovas(system.machine, dma, AGE);
  return dma.dma?.iovas as IovaDomain;
}

/** Pages of the ranges that caches hold, by their number. */
function held(iovas: IovaDomain, pages: number): number {
  return [...iovas.cached()].filter((range) => range.pages === pages).length;
}

describe("an aged allocator", () => {
  it("has its magazines and a bounded depot full, and gave the rest back", () => {
    const iovas = aged(BOUNDED);
    // A magazine of each CPU may be part full.
    expect(held(iovas, 1)).toBeGreaterThan(HELD_MAX - CPUS * MAGAZINE);
    expect(held(iovas, 1)).toBeLessThanOrEqual(HELD_MAX);
    expect(iovas.common.frees).toBeGreaterThan(AGE.ranges / 4);
    iovas.check();
  });

  it("keeps all there was at the peak where the depot has no limit", () => {
    const iovas = aged(UNBOUNDED_DEPOT);
    expect(iovas.common.frees).toBe(0);
    // Some came out of caches again before the peak.
    expect([...iovas.cached()].length).toBe(iovas.common.allocations);
    expect(iovas.common.allocations).toBeGreaterThanOrEqual(AGE.ranges);
  });

  it("holds ranges of all sizes that caches keep", () => {
    const iovas = aged(UNBOUNDED_DEPOT);
    // A twelfth of the ranges, give or take four standard deviations of 21.
    for (const pages of [2, 4, 8, 16, 32]) {
      expect(Math.abs(held(iovas, pages) - AGE.ranges / 12)).toBeLessThan(4 * 21 + MAGAZINE);
    }
  });

  it("is the same for the same seed, and another one for another", () => {
    const ranges = (seed: number) => [...aged(BOUNDED, seed).ranges()];
    expect(ranges(1)).toEqual(ranges(1));
    expect(ranges(2)).not.toEqual(ranges(1));
  });
});

it("a mask that has no room for the age is an error that says so", () => {
  const system = createSystem({ profile: genericArm });
  const { dma } = system.addDevice("device0");
  setDmaMask(dma, 24);
  expect(() => ageIovas(system.machine, dma, AGE)).toThrow(IovaAgeError);
});

it("nothing is aged where nothing translates", () => {
  const system = createSystem({ mode: "passthrough", profile: genericArm });
  const { dma } = system.addDevice("device0");
  const before = system.machine.nowNs;
  ageIovas(system.machine, dma, AGE);
  expect(system.machine.nowNs).toBe(before);
});
