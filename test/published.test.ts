/**
 * The shapes of published contention measurements, with wide margins; docs/published.md has the
 * numbers. Rates are pairs of map and unmap per second of all CPUs.
 */

import { describe, expect, it } from "vitest";
import type { CommandQueueKind } from "#drivers/smmuv3";
import { kunpengD06 } from "#platform";
import { DEFAULT_PARAMETERS, MapBenchmark, type Mode } from "#workloads";

const FETCH_ADD: CommandQueueKind = { kind: "lockless", reservation: "fetch-add" };
/** The tool's FROM_DEVICE: the buffer is not touched. */
const FROM_DEVICE = 2;

function rate(threads: number, commandQueue?: CommandQueueKind, mode: Mode = "strict"): number {
  const benchmark = new MapBenchmark({
    profile: kunpengD06,
    mode,
    // Some thousand loops: the shapes show. Lazy mode's caches of addresses fill first.
    simulatedNsMax: mode === "lazy" ? 12e6 : 3e6,
    parameters: { ...DEFAULT_PARAMETERS, threads, seconds: 1, direction: FROM_DEVICE },
    ...(commandQueue === undefined ? {} : { commandQueue }),
  });
  while (!benchmark.runSome(1e6));
  const { mapMeanNs, unmapMeanNs } = benchmark.outcome();
  return (threads * 1e9) / (mapMeanNs + unmapMeanNs);
}

describe("strict mode on one command queue", () => {
  const [before8, before32, before64] = [8, 32, 64].map((threads) => rate(threads));
  const [after8, after16, after64] = [8, 16, 64].map((threads) => rate(threads, FETCH_ADD));

  it("falls with CPUs where slots are reserved by compare-exchange, to a half or less", () => {
    expect(before32).toBeLessThan(0.8 * before8);
    expect(before64).toBeLessThan(0.6 * before8);
  });

  it("peaks later and falls less with fetch-and-add", () => {
    expect(after16).toBeGreaterThan(1.15 * after8);
    expect(after64).toBeGreaterThan(1.5 * before64);
  });

  it("does not care for the queue's algorithm while few CPUs use it", () => {
    expect(rate(2, FETCH_ADD) / rate(2)).toBeCloseTo(1, 1);
    expect(after8 / before8).toBeGreaterThan(0.8);
    expect(after8 / before8).toBeLessThan(1.25);
  });

  it("is far below lazy mode", () => {
    expect(rate(8, undefined, "lazy")).toBeGreaterThan(2 * before8);
  });
});
