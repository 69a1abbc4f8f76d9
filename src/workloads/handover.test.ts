/**
 * What an IOVA allocator does to throughput when its caches do not suffice: shapes, with wide
 * margins, where half of the CPUs map and the other half unmap. docs/published.md has numbers of
 * larger machines.
 */

import { describe, expect, it } from "vitest";
import type { DepotPolicy } from "#iova";
import { kunpengD06 } from "#platform";
import { type Handover, type HandoverOptions, measureHandover } from "./handover.js";

/**
 * As small against the flush queues of 16 CPUs as 32 magazines are against those of 256: the
 * fewer CPUs, the sooner a simulation is over.
 */
const BOUNDED: DepotPolicy = { kind: "bounded", magazinesMax: 2 };

const BASE: HandoverOptions = {
  profile: kunpengD06,
  mode: "lazy",
  cpus: 16,
  bufferBytes: 4096,
  pauseNs: 2000,
  depth: 256,
  // The flush queue's timer has run, once every 10 to 14 ms.
  rampNs: 15e6,
  sliceNs: 5e6,
  slices: 3,
};

function handover(changes: Partial<HandoverOptions>): Handover {
  return measureHandover({ ...BASE, ...changes });
}

describe("lazy mode with an aged allocator", () => {
  // More than twice what magazines and depot hold of one page: (2 * 16 + 2) * 127.
  const ageRanges = 20_000;
  const unbounded = handover({ ageRanges });
  const bounded = handover({ ageRanges, iovaDepot: BOUNDED });

  it("goes on as ever where the depot has no limit", () => {
    expect(unbounded.treeAllocations + unbounded.treeFrees).toBeLessThan(0.01);
    // A map each 2 us and what it takes itself, on half of the CPUs.
    expect(unbounded.perSecond).toBeGreaterThan((0.75 * 8) / 2000e-9);
  });

  it("falls through to the rbtree where the depot is full, and is slower for good", () => {
    expect(bounded.treeAllocations).toBeGreaterThan(0.1);
    expect(bounded.treeFrees).toBeGreaterThan(0.1);
    expect(bounded.commonCpus).toBeGreaterThan(1);
    expect(bounded.perSecond).toBeLessThan(0.85 * unbounded.perSecond);
    for (const rate of bounded.slicesPerSecond) {
      expect(rate).toBeLessThan(0.95 * unbounded.perSecond);
    }
  });
});

it("strict mode does not care: addresses come back one by one, and caches stay small", () => {
  const strict = { mode: "strict", ageRanges: 20_000, slices: 1 } as const;
  const [bounded, unbounded] = [handover({ ...strict, iovaDepot: BOUNDED }), handover(strict)];
  expect(bounded.perSecond / unbounded.perSecond).toBeGreaterThan(0.9);
});

describe("buffers larger than caches keep", () => {
  // 32 and 33 pages.
  const [cached, uncached] = [131_072, 135_168];
  const short = { cpus: 16, depth: 32, rampNs: 5e6, slices: 1 };

  it.each(["strict", "lazy"] as const)("go to the rbtree, one by one, in %s mode", (mode) => {
    const small = handover({ ...short, mode, bufferBytes: cached });
    const large = handover({ ...short, mode, bufferBytes: uncached });
    expect(small.treeFrees).toBe(0);
    expect(large.treeFrees).toBeGreaterThan(0.9);
    expect(large.perSecond).toBeLessThan(0.8 * small.perSecond);
  });
});
