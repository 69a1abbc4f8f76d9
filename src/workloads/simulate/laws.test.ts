/** Laws that every simulation keeps, whatever the load: nothing is lost and nothing counted twice. */

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { genericArm, kunpengD06, type Profile } from "#platform";
import {
  type AnyPlan,
  createSimulation,
  NET_TESTS,
  READ_WRITES,
  type SimulationPlan,
  type SimulationResult,
} from "./index.js";

/** A CPU's clock is ahead of the window's end, or behind it, by one step: waiting for a line or a SYNC. */
const STEP_NS = 20_000;
/** Or by copying all that has come in, which is one step. */
const READ_NS = 1024 * genericArm.machine.workNs.copyKilobyte.value;

/** Counterexamples are shown by the profile's name. */
function short(profile: Profile): Profile {
  return Object.assign({ ...profile }, { [fc.toStringMethod]: () => profile.name });
}

/** Of a TCP connection's window, and of what it has sent. */
const SOCKET_BYTES_MAX = 2 ** 20;

const common = fc.record({
  mode: fc.constantFrom("strict", "lazy", "passthrough"),
  cpus: fc.integer({ min: 1, max: 4 }),
  profile: fc.constantFrom(short(genericArm), short(kunpengD06)),
  seed: fc.nat(1000),
  devices: fc.integer({ min: 1, max: 2 }),
  smmus: fc.constant(1),
  sync: fc.constantFrom("msi", "poll"),
  runtimeNs: fc.constantFrom(3e5, 1e6),
  rampNs: fc.constantFrom(2e5, 5e5),
  why: fc.constant(true),
}) satisfies fc.Arbitrary<SimulationPlan>;

function run(plan: AnyPlan): SimulationResult {
  const simulation = createSimulation(plan);
  while (!simulation.runSome(100_000));
  return simulation.result();
}

function sumOf(sums: Readonly<Record<string, number>> = {}): number {
  return Object.values(sums).reduce((sum, ns) => sum + ns, 0);
}

/** What holds of any load. */
function expectConserved(plan: AnyPlan, result: SimulationResult, stepNs: number): void {
  const { runtimeNs } = plan;
  const { why, count } = result;
  expect(result.errors).toBe(0);
  // All CPU time is accounted for, and there is no more of it than there are CPUs.
  const busyNs = result.cpuNsPerRequest * count;
  const edgesNs = plan.cpus * stepNs;
  expect(busyNs).toBeLessThanOrEqual(plan.cpus * runtimeNs + edgesNs);
  expect(result.cpuUtilisation).toBeLessThanOrEqual(1);
  const totalNs = why?.totalNs ?? 0;
  if (count > 0) expect(Math.abs(totalNs - busyNs)).toBeLessThanOrEqual(edgesNs);
  expect(sumOf(why?.stacks)).toBeCloseTo(totalNs, 3);
  expect(sumOf(why?.purposes)).toBeCloseTo(totalNs, 3);
  // Nothing is in use for more than the time, and nothing is invalidated that no SMMU translates.
  for (const { utilisation } of result.resources) {
    expect(utilisation).toBeGreaterThanOrEqual(0);
    expect(utilisation).toBeLessThanOrEqual(1);
  }
  if (plan.mode === "passthrough") expect(result.commands).toEqual({});
}

describe("conservation", () => {
  it("fio's jobs: Little's law, latencies in two parts, bytes", () => {
    const plans = fc
      .record({
        kind: fc.constant("nvme" as const),
        rw: fc.constantFrom(...READ_WRITES),
        blockBytes: fc.constantFrom(512, 4096, 12_288, 131_072),
        iodepth: fc.integer({ min: 1, max: 64 }),
        numjobs: fc.integer({ min: 1, max: 6 }),
      })
      .chain((load) => common.map((rest) => ({ ...load, ...rest })));
    fc.assert(
      fc.property(plans, (plan) => {
        const result = run(plan);
        expectConserved(plan, result, STEP_NS);
        const { count, perSecond, latencyNs, slatNs, clatNs } = result;
        const seconds = plan.runtimeNs / 1e9;
        expect(result.bytesPerSecond * seconds).toBeCloseTo(count * plan.blockBytes, 3);
        if (clatNs === undefined || slatNs === undefined) return;
        expect(slatNs.mean + clatNs.mean).toBeCloseTo(latencyNs.mean, 3);
        expect(latencyNs.mean).toBeLessThanOrEqual(latencyNs.max);
        // In flight are never more than the jobs' depths. At an end of the window all of those may
        // be partly within it, and seen as completed after it or before.
        const inFlightMax = plan.iodepth * plan.numjobs;
        const inFlight = perSecond * latencyNs.mean * 1e-9;
        const edge = (2 * latencyNs.max) / plan.runtimeNs;
        expect(inFlight).toBeLessThanOrEqual(inFlightMax * (1 + edge));
      }),
      { numRuns: 10 },
    );
  });

  it("netperf's streams, of any message size", () => {
    const plans = fc
      .record({
        kind: fc.constant("net" as const),
        test: fc.constantFrom(...NET_TESTS),
        messageBytes: fc.oneof(
          fc.integer({ min: 1, max: 65_536 }),
          fc.constantFrom(1, 1449, 65_536),
        ),
        streams: fc.integer({ min: 1, max: 6 }),
        copybreakBytes: fc.constantFrom(0, 256, 4096),
        receiveBuffers: fc.constantFrom("pool", "map"),
        mtuBytes: fc.constantFrom(576, 1500),
      })
      .chain((load) => common.map((rest) => ({ ...load, ...rest })));
    fc.assert(
      fc.property(plans, (plan) => {
        const result = run(plan);
        expectConserved(plan, result, STEP_NS + READ_NS);
        // More than the wires carry is what sockets held at the beginning. (A wire carries each way.)
        const seconds = plan.runtimeNs / 1e9;
        const carried = plan.devices * plan.profile.nic.wireBandwidth.value * plan.runtimeNs;
        const held = plan.streams * SOCKET_BYTES_MAX;
        expect(result.bytesPerSecond * seconds).toBeLessThanOrEqual(carried + held);
      }),
      { numRuns: 10 },
    );
  });
});
