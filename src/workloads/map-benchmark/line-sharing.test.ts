/** What the queue's neighbours in memory cost under contention, and the parts of an unmap. */

import { describe, expect, it } from "vitest";
import { kunpengD06, type Profile } from "#platform";
import { DEFAULT_PARAMETERS, MapBenchmark } from "./index.js";

/** 48 CPUs are two dies of the machine, where three quarters of an unmap are the queue's lines. */
const CPUS = 48;
const FROM_DEVICE = 2;
/** A thousand unmaps and more, whatever the number of CPUs. */
const SIMULATED_NS = 3e6;

interface Parts {
  readonly reserveNs: number;
  readonly syncNs: number;
  readonly restNs: number;
}

/** What a CPU spends per unmap: reserving slots, waiting for the CMD_SYNC, else in the queue. */
function partsOf(threads: number, lineBytes: number): Parts {
  const { lineBytes: quantity } = kunpengD06.machine.cpu;
  const profile: Profile = {
    ...kunpengD06,
    machine: {
      ...kunpengD06.machine,
      cpu: { ...kunpengD06.machine.cpu, lineBytes: { ...quantity, value: lineBytes } },
    },
  };
  const run = new MapBenchmark({
    profile,
    mode: "strict",
    invalidation: "list",
    simulatedNsMax: SIMULATED_NS,
    why: true,
    parameters: { ...DEFAULT_PARAMETERS, threads, dmaBits: 64, direction: FROM_DEVICE },
  });
  while (!run.runSome(1e6));
  const { why, loops } = run.outcome();
  if (why === undefined) throw new Error("the benchmark was asked why");
  const { purposes, stacks } = why;
  const reserveNs = stacks["job;unmap;queue insertion;cmdq prod and cons"] / loops;
  const queueNs = purposes["queue insertion"] / loops;
  const syncNs = purposes["waiting for SYNC"] / loops;
  return { reserveNs, syncNs, restNs: queueNs - reserveNs };
}

describe("fields beside the queue's indices", () => {
  const apart = partsOf(CPUS, 64);
  const together = partsOf(CPUS, 128);

  it("make the wait for a CMD_SYNC much longer where they move with them", () => {
    // Twice as long: the owner's commands are published late, since others are written late.
    expect(together.syncNs).toBeGreaterThan(1.5 * apart.syncNs);
    expect(together.restNs).toBeGreaterThan(3 * apart.restNs);
  });

  it("leave the compare-exchange the larger part, as it was on the machine (A01)", () => {
    expect(together.reserveNs).toBeGreaterThan(1.5 * together.syncNs);
  });

  it("cost a CPU that is alone nothing", () => {
    const [alone, aloneTogether] = [partsOf(1, 64), partsOf(1, 128)];
    const sum = ({ reserveNs, syncNs, restNs }: Parts): number => reserveNs + syncNs + restNs;
    expect(sum(aloneTogether) / sum(alone)).toBeCloseTo(1, 1);
    // And then it is the SMMU that it waits for (A02: more than 60 %).
    expect(alone.syncNs).toBeGreaterThan(0.6 * sum(alone));
  });
});
