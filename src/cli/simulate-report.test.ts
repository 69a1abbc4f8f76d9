/** The table of `iommukit simulate` on terminals of any width. */

import { describe, expect, it } from "vitest";
import { genericArm } from "#platform";
import { type AnyPlan, createSimulation, type SimulationResult } from "#workloads";
import { tableOf } from "./simulate-report.js";

const COMMON = {
  mode: "strict",
  cpus: 2,
  profile: genericArm,
  seed: 1,
  devices: 1,
  smmus: 1,
  runtimeNs: 5e5,
  rampNs: 2e5,
  why: false,
} as const;

const PLANS: readonly AnyPlan[] = [
  { ...COMMON, kind: "nvme", rw: "randread", blockBytes: 4096, iodepth: 8, numjobs: 2 },
  {
    ...COMMON,
    kind: "net",
    test: "UDP_STREAM",
    messageBytes: 1000,
    streams: 2,
    copybreakBytes: 0,
    receiveBuffers: "pool",
    mtuBytes: 1500,
  },
];

function run(plan: AnyPlan): SimulationResult {
  const simulation = createSimulation(plan);
  while (!simulation.runSome(100_000));
  return simulation.result();
}

describe.each(PLANS.map((plan) => [plan.kind, run(plan)] as const))("of %s", (kind, result) => {
  // From 80 columns on: the narrowest terminal that people have.
  it.each([80, 100, 120, 200])("has no line longer than %i columns", (room) => {
    const [table, ...limits] = tableOf(kind, [result, result], room);
    for (const line of table.split("\n")) expect(line.length).toBeLessThanOrEqual(room);
    // What limits is said once for each run, in the table or below it.
    const isBelow = limits.length > 0;
    expect(limits).toHaveLength(isBelow ? 2 : 0);
    expect(table.includes("what limits")).toBe(!isBelow);
    expect(table).toContain("CPU ns");
  });

  it("has all there is in a pipe", () => {
    expect(tableOf(kind, [result], Number.POSITIVE_INFINITY)[0]).toContain("what limits");
  });
});
