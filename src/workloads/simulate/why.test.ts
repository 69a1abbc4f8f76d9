/** Accounting for time: all of it, only once, and without changing anything. */

import { describe, expect, it } from "vitest";
import { genericArm } from "#platform";
import { type BlockPlan, createSimulation } from "./index.js";
import { withoutNumbers } from "./why.js";

function run(mode: BlockPlan["mode"], why: boolean, changes: Partial<BlockPlan> = {}) {
  const simulation = createSimulation({
    kind: "nvme",
    mode,
    cpus: 4,
    profile: genericArm,
    seed: 1,
    devices: 1,
    smmus: 1,
    sync: "msi",
    runtimeNs: 2e6,
    rampNs: 1e6,
    why,
    rw: "randread",
    blockBytes: 4096,
    iodepth: 32,
    numjobs: 4,
    ...changes,
  });
  while (!simulation.runSome(100_000));
  return simulation.result();
}

describe.each([
  ["passthrough", {}],
  ["strict", {}],
  ["lazy", {}],
  ["strict", { sync: "poll", commandQueue: { kind: "spinlock" } }],
] as const)("%s %o", (mode, changes) => {
  const watched = run(mode, true, changes);

  it("changes nothing by being watched", () => {
    const { why, ...rest } = watched;
    expect(why).toBeDefined();
    expect(run(mode, false, changes)).toEqual(rest);
  });

  it("accounts for the CPUs' busy time", () => {
    const total = watched.why?.totalNs ?? 0;
    // Accesses that straddle an end of the window are counted whole or not at all.
    expect(total / (watched.cpuNsPerRequest * watched.count)).toBeCloseTo(1, 1);
    const sumOf = (sums: Readonly<Record<string, number>> = {}) =>
      Object.values(sums).reduce((sum, ns) => sum + ns, 0);
    expect(sumOf(watched.why?.stacks)).toBeCloseTo(total, 3);
    expect(sumOf(watched.why?.purposes)).toBeCloseTo(total, 3);
  });
});

it("strict waits for SYNC within unmaps within interrupts, passthrough waits for nothing", () => {
  const { why, unmapNs, count } = run("strict", true);
  const waiting = Object.entries(why?.stacks ?? {}).filter(([stack]) => stack.includes("SYNC"));
  // A CPU that is about to wait looks how that is done.
  expect(waiting.map(([stack]) => stack)).toEqual([
    "nvme queue interrupt;unmap;waiting for SYNC;message",
    "nvme queue interrupt;unmap;waiting for SYNC;smmu options for wait",
  ]);
  const waitedNs = waiting[0][1];
  expect(waitedNs).toBeGreaterThan(0.3 * unmapNs * count);
  expect(waitedNs).toBeLessThan(unmapNs * count);
  expect(run("passthrough", true).why?.purposes["waiting for SYNC"]).toBeUndefined();
});

describe("magazines of addresses", () => {
  const allocatorNs = (changes: Partial<BlockPlan>, mode: BlockPlan["mode"] = "strict") => {
    const { why, count } = run(mode, true, changes);
    return (why?.purposes["IOVA allocator"] ?? 0) / count;
  };

  it("do not help beyond 128 KiB: those ranges come from the tree and its lock", () => {
    const [within, beyond] = [131_072, 262_144].map((blockBytes) =>
      allocatorNs({ blockBytes, iodepth: 4 }),
    );
    expect(beyond / within).toBeGreaterThan(2.5);
  });
});

it("names of lines that differ in numbers are one", () => {
  expect(withoutNumbers("iova cache 3 of cpu12")).toBe("iova cache of cpu");
});
