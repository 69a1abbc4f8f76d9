/**
 * Which way is faster, where it is clearly so. All margins are far from what is measured, which
 * stands in bench/smmu/README.md: they hold for any costs of that order.
 */

import { describe, expect, it } from "vitest";
import type { CommandQueueKind } from "#drivers/smmuv3";
import { genericArm } from "#platform";
import { measureUnmapRate, type UnmapRateOptions } from "./unmap-rate.js";

const SPINLOCK: CommandQueueKind = { kind: "spinlock" };
const FETCH_ADD: CommandQueueKind = { kind: "lockless", reservation: "fetch-add" };

function rate(cpus: number, options: Partial<UnmapRateOptions> = {}): number {
  const unmaps = Math.max(200, cpus * 6);
  return measureUnmapRate({ profile: genericArm, cpus, unmaps, ...options }).unmapsPerSecond;
}

describe("unmapping in strict mode", () => {
  it("is several times as fast with the lock-less queue as under one spinlock, on 8 CPUs", () => {
    const msi = { syncCompletion: "msi" } as const;
    // Measured: 5.6 and 4.8 times as fast.
    expect(rate(8)).toBeGreaterThan(2 * rate(8, { commandQueue: SPINLOCK }));
    expect(rate(8, msi)).toBeGreaterThan(2 * rate(8, { commandQueue: SPINLOCK, ...msi }));
  });

  it("gains nothing from more CPUs where they wait under the lock, and a lot without it", () => {
    // Measured: half, and 3.2 times.
    const locked = { commandQueue: SPINLOCK };
    expect(rate(16, locked)).toBeLessThan(rate(1, locked));
    expect(rate(8)).toBeGreaterThan(1.5 * rate(1));
  });

  it("under the spinlock gains from waiting for the MSI outside of it, with a few CPUs", () => {
    const queue = { commandQueue: SPINLOCK };
    // Measured: twice as fast.
    expect(rate(2, { ...queue, syncCompletion: "msi" })).toBeGreaterThan(1.3 * rate(2, queue));
  });

  it("collapses where 64 CPUs compare and exchange, and not where they add", () => {
    // Measured: 4.9 times as fast, and a quarter of what 8 CPUs do.
    const exchanged = rate(64);
    expect(rate(64, { commandQueue: FETCH_ADD })).toBeGreaterThan(2 * exchanged);
    expect(exchanged).toBeLessThan(0.6 * rate(8));
  });

  it("costs the same by array as by list: what devices' caches take is much more", () => {
    for (const atsDevices of [0, 4]) {
      const array = rate(16, { atsDevices, invalidation: "array" });
      const list = rate(16, { atsDevices, invalidation: "list" });
      // Measured: between 0.93 and 1.06.
      expect(array / list).toBeGreaterThan(0.75);
      expect(array / list).toBeLessThan(1.35);
    }
    expect(rate(16, { atsDevices: 4 })).toBeLessThan(0.7 * rate(16));
  });

  it("for several SMMUs waits for all at once rather than for one after the other", () => {
    // Measured: 2.4 times as fast with 4, 2.9 times with 8.
    for (const smmus of [4, 8]) {
      const concurrent = rate(1, { smmus });
      const serial = rate(1, { smmus, multiInstance: "serial" });
      expect(concurrent).toBeGreaterThan(1.6 * serial);
    }
    expect(rate(1, { smmus: 1, multiInstance: "serial" })).toBe(rate(1));
  });
});
