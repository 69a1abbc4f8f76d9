/** Shapes that a simulation of NVMe has to show, with wide margins, on short runs. */

import { describe, expect, it } from "vitest";
import { assumed, extendProfile, genericArm, type Quantity } from "#platform";
import { type BlockPlan, createSimulation, type SimulationResult } from "./index.js";

const provenance = assumed("a test");
const count = (value: number): Quantity => ({ value, unit: "count", provenance });
const ns = (value: number): Quantity => ({ value, unit: "ns", provenance });

const NVME = { channels: count(256), readMediaNs: ns(20_000), commandNs: ns(50) };

/** Media that are never the limit. */
const FAST_MEDIA = extendProfile(genericArm, {
  name: "fast-media",
  description: "a test",
  nvme: NVME,
});

/** A drive that is never the limit, so that CPUs and IOMMU are. */
const FAST_DRIVE = extendProfile(FAST_MEDIA, {
  name: "fast-drive",
  description: "a test",
  link: { bandwidth: { value: 100, unit: "bytes/ns", provenance } },
});

const BASE: BlockPlan = {
  kind: "nvme",
  mode: "strict",
  cpus: 4,
  profile: genericArm,
  seed: 1,
  devices: 1,
  smmus: 1,
  sync: "msi",
  runtimeNs: 3e6,
  rampNs: 1e6,
  why: false,
  rw: "randread",
  blockBytes: 4096,
  iodepth: 32,
  numjobs: 4,
};

function run(changes: Partial<BlockPlan>): SimulationResult {
  const plan = { ...BASE, numjobs: changes.cpus ?? BASE.cpus, ...changes };
  const simulation = createSimulation(plan);
  while (!simulation.runSome(100_000));
  expect(simulation.progress).toBe(1);
  const result = simulation.result();
  expect(result.errors).toBe(0);
  expect(result.count).toBeGreaterThan(100);
  return result;
}

it("the same plan gives the same result, another seed another one", () => {
  expect(run({})).toEqual(run({}));
  expect(run({ seed: 2 }).latencyNs.mean).not.toBe(run({}).latencyNs.mean);
});

it("rates, latencies and requests in flight agree (Little's law)", () => {
  // In flight are those that were submitted: with little to do per request nearly all of them.
  const { perSecond, latencyNs } = run({ mode: "passthrough", runtimeNs: 5e6 });
  const inFlight = perSecond * latencyNs.mean * 1e-9;
  expect(inFlight).toBeGreaterThan(0.9 * 4 * 32);
  expect(inFlight).toBeLessThan(1.1 * 4 * 32);
});

it("strict invalidates and waits once per request, lazy hardly ever, passthrough never", () => {
  const [strict, lazy, passthrough] = (["strict", "lazy", "passthrough"] as const).map((mode) =>
    run({ mode }),
  );
  const perRequest = (result: SimulationResult, name: string): number =>
    (result.commands[name] ?? 0) / result.count;
  expect(perRequest(strict, "CMD_SYNC")).toBeCloseTo(1, 1);
  expect(perRequest(strict, "CMD_TLBI_NH_VA")).toBeCloseTo(1, 1);
  // A flush of a CPU's queue serves 255 unmaps.
  expect(perRequest(lazy, "CMD_SYNC")).toBeLessThan(0.02);
  expect(passthrough.commands).toEqual({});
});

describe("where the drive is the limit", () => {
  it("lazy is within a few percent of passthrough, and the media are named", () => {
    const [lazy, passthrough] = (["lazy", "passthrough"] as const).map((mode) =>
      run({ mode, cpus: 8 }),
    );
    expect(lazy.perSecond / passthrough.perSecond).toBeGreaterThan(0.95);
    for (const { bottleneck } of [lazy, passthrough]) expect(bottleneck.kind).toBe("media");
  });

  it("the rate is that of the media: units over the time of one", () => {
    const { perSecond } = run({ mode: "passthrough", cpus: 8, runtimeNs: 10e6 });
    const { channels, readMediaNs } = genericArm.nvme;
    const media = (channels.value * 1e9) / readMediaNs.value;
    expect(perSecond / media).toBeGreaterThan(0.97);
    expect(perSecond / media).toBeLessThan(1.03);
  });

  it("large blocks fill the link", () => {
    const { bytesPerSecond, bottleneck } = run({
      mode: "passthrough",
      profile: FAST_MEDIA,
      blockBytes: 131_072,
      rw: "read",
    });
    expect(bottleneck.kind).toBe("link");
    expect(bytesPerSecond / 1e9 / genericArm.link.bandwidth.value).toBeGreaterThan(0.95);
  });
});

describe("where the IOMMU is the limit", () => {
  const strictAt = (cpus: number, changes: Partial<BlockPlan> = {}): SimulationResult =>
    run({ profile: FAST_DRIVE, cpus, iodepth: 16, runtimeNs: 2e6, ...changes });

  it("strict flattens with CPUs on one queue, while passthrough goes on", () => {
    const [one, eight, thirtyTwo] = [1, 8, 32].map((cpus) => strictAt(cpus));
    expect(eight.perSecond / one.perSecond).toBeGreaterThan(2);
    // Four times the CPUs, at best a little more.
    expect(thirtyTwo.perSecond / eight.perSecond).toBeLessThan(1.5);
    const passthrough = strictAt(32, { mode: "passthrough" });
    expect(passthrough.perSecond / thirtyTwo.perSecond).toBeGreaterThan(2);
    expect(["command-queue", "smmu"]).toContain(thirtyTwo.bottleneck.kind);
  });

  it("two drives on two SMMUs do better than on one", () => {
    const together = strictAt(32, { devices: 2 });
    const apart = strictAt(32, { devices: 2, smmus: 2 });
    expect(apart.perSecond / together.perSecond).toBeGreaterThan(1.4);
  });

  it("one lock around queue and wait is worse than the lock-less queue with MSIs", () => {
    const lockless = strictAt(16);
    const blocking = strictAt(16, { commandQueue: { kind: "spinlock" }, sync: "poll" });
    expect(lockless.perSecond / blocking.perSecond).toBeGreaterThan(1.3);
  });
});

it("where magazines do not suffice, the rbtree's lock is named, and where the time goes", () => {
  // Of each eight CPUs one takes the interrupts: the others' addresses come through the depot.
  const profile = extendProfile(FAST_DRIVE, {
    name: "few-queues",
    description: "a test",
    nvme: { ...NVME, queuePairs: count(4) },
  });
  const plan = { profile, mode: "lazy", cpus: 32, runtimeNs: 1e6, why: true } as const;
  const without = run({ ...plan, iovaDepot: { kind: "bounded", magazinesMax: 0 } });
  expect(without.bottleneck.kind).toBe("allocator");
  expect(without.bottleneck.text).toMatch(/rbtree and depot take \d+ % of CPU time/);
  expect(Object.keys(without.why?.purposes ?? {})[0]).toBe("IOVA allocator");
  expect(without.why?.lines.slice(0, 2).map(({ name }) => name)).toContain("iova tree");
  expect(without.iovaTree.frees / without.count).toBeGreaterThan(0.1);
  const aged = { ranges: 20_000, pages: 1 };
  const unbounded = run({ ...plan, iovaAge: aged });
  expect(unbounded.bottleneck.kind).not.toBe("allocator");
  expect(unbounded.perSecond).toBeGreaterThan(1.3 * without.perSecond);
});

it("CPUs without a job do nothing, and jobs share CPUs when there are more of them", () => {
  const [few, many] = [2, 8].map((numjobs) => run({ numjobs, mode: "lazy" }));
  const busy = few.resources.filter(({ kind, utilisation }) => kind === "cpu" && utilisation > 0);
  expect(busy.map(({ name }) => name)).toEqual(["cpu0", "cpu2"]);
  expect(many.perSecond).toBeGreaterThan(1.1 * few.perSecond);
});

it("writes and mixes go through as well, and requests of several pages with their lists", () => {
  for (const rw of ["randwrite", "randrw"] as const) run({ rw });
  const { iotlb, count: requests } = run({ blockBytes: 65_536, mode: "lazy" });
  // Each of the 16 pages is translated, besides rings and lists.
  expect((iotlb.hits + iotlb.misses) / requests).toBeGreaterThan(16);
});

it("finds its ramp where none is given, and goes forward", () => {
  const { rampNs: _, ...plan } = { ...BASE, cpus: 1, numjobs: 1, iodepth: 4, runtimeNs: 2e6 };
  const simulation = createSimulation(plan);
  const seen = [simulation.progress];
  while (!simulation.runSome(200)) seen.push(simulation.progress);
  expect(seen.length).toBeGreaterThan(5);
  expect(seen).toEqual([...seen].sort((a, b) => a - b));
  expect(simulation.progress).toBe(1);
  const { rampNs, count, perSecond, perSecondHalfWidth } = simulation.result();
  // The shortest there is, and what CPUs may be ahead of whoever opens the window.
  expect(rampNs).toBe(5e6 + 2000);
  expect(perSecond).toBeCloseTo(count / 2e-3, 3);
  expect(perSecondHalfWidth / perSecond).toBeLessThan(0.1);
});
