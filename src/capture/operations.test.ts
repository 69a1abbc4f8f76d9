/**
 * The join against a machine that knows what belongs together: CPUs that map and unmap, with
 * interrupts between the events of one call, whose events are what a kernel traces.
 */

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { CaptureEvent, DmaDirection } from "./events.js";
import {
  type DmaOperation,
  joinOperations,
  type MapOperation,
  newOperationStatistics,
  type Segment,
  type UnmapOperation,
} from "./operations.js";
import { fixturePath, readWhole } from "./testing/fixtures.js";

const CPUS = 3;
const DEVICES = ["0000:00:01.0", "0000:00:02.0"];
const PAGE_BYTES = 4096;

interface TrueMapping {
  readonly number: number;
  readonly device: number;
  readonly iova: number;
  readonly runs: readonly Segment[];
  readonly sg: boolean;
  readonly offset: number;
  readonly sizeBytes: number;
}

/** One event of a call; what it changes happens when it is traced. */
type Step = () => CaptureEvent;

interface Truth {
  readonly events: CaptureEvent[];
  readonly maps: TrueMapping[];
  /** Numbers of the mappings that were unmapped. */
  readonly unmaps: number[];
}

/** The least free IOVA, so that addresses come back as soon as they can. */
class Iovas {
  readonly #used: Set<number> = new Set();

  take(pages: number): number {
    for (let first = 1; ; first += 1) {
      const range = Array.from({ length: pages }, (_, at) => first + at);
      if (range.some((page) => this.#used.has(page))) continue;
      for (const page of range) this.#used.add(page);
      return first * PAGE_BYTES;
    }
  }

  free(iova: number, pages: number): void {
    for (let at = 0; at < pages; at += 1) this.#used.delete(iova / PAGE_BYTES + at);
  }
}

/** Run a machine by a list of choices: which CPU goes on, and with what. */
function run(choices: readonly number[], devices = DEVICES.length): Truth {
  const truth: Truth = { events: [], maps: [], unmaps: [] };
  const iovas = DEVICES.map(() => new Iovas());
  const live: TrueMapping[] = [];
  const stacks: Step[][][] = Array.from({ length: CPUS }, () => []);
  let paddrNext = 0x10_0000;
  const at = (cpu: number) => ({
    timeNs: truth.events.length * 1000,
    cpu,
    // Interrupts are traced under the task that they interrupt.
    pid: cpu === 0 ? 0 : 100 + cpu,
    task: "t",
  });
  const direction: DmaDirection = "to_device";
  const attrs = 0;

  const mapCall = (cpu: number, choice: number): Step[] => {
    const device = choice % devices;
    const sg = choice % 3 === 0;
    const runs = Array.from({ length: sg ? 1 + (choice % 4) : 1 }, (_, index): Segment => {
      const lengthBytes = PAGE_BYTES * (1 + ((choice >> index) % 2));
      // A gap between runs, since what is contiguous would be one run.
      paddrNext += lengthBytes + PAGE_BYTES;
      return { paddr: paddrNext - lengthBytes, lengthBytes };
    });
    const total = runs.reduce((sum, { lengthBytes }) => sum + lengthBytes, 0);
    const offset = sg ? 0 : choice % 64;
    const sizeBytes = sg ? total : total - offset - (choice % 32);
    const iova = (iovas[device] as Iovas).take(total / PAGE_BYTES);
    let next = iova;
    const steps = runs.map(({ paddr, lengthBytes }): Step => {
      const start = next;
      next += lengthBytes;
      return () => ({ kind: "iommu_map", ...at(cpu), iova: start, paddr, sizeBytes: lengthBytes });
    });
    steps.push(() => {
      const number = truth.maps.length;
      const mapping = { number, device, iova, runs, sg, offset, sizeBytes };
      truth.maps.push(mapping);
      live.push(mapping);
      const common = { ...at(cpu), device: DEVICES[device], direction, attrs };
      if (!sg) {
        const paddr = runs[0].paddr + offset;
        const dmaAddress = iova + offset;
        return { kind: "dma_map", ...common, via: "page", paddr, dmaAddress, sizeBytes };
      }
      const paddrs = entriesOf(runs);
      return {
        kind: "dma_map_sg",
        ...common,
        paddrs,
        dmaAddresses: [iova],
        lengths: [sizeBytes],
        fullNents: paddrs.length,
        fullEnts: 1,
        truncated: false,
      };
    });
    return steps;
  };

  const unmapCall = (cpu: number, mapping: TrueMapping): Step[] => {
    const { device, iova, runs, sg, offset, sizeBytes, number } = mapping;
    const total = runs.reduce((sum, { lengthBytes }) => sum + lengthBytes, 0);
    const iommu: Step = () => {
      (iovas[device] as Iovas).free(iova, total / PAGE_BYTES);
      return { kind: "iommu_unmap", ...at(cpu), iova, sizeBytes: total, unmappedBytes: total };
    };
    const dma: Step = () => {
      truth.unmaps.push(number);
      const common = { ...at(cpu), device: DEVICES[device], direction, attrs };
      return sg
        ? { kind: "dma_unmap_sg", ...common, paddrs: entriesOf(runs) }
        : { kind: "dma_unmap", ...common, via: "page", dmaAddress: iova + offset, sizeBytes };
    };
    return sg ? [dma, iommu] : [iommu, dma];
  };

  const goOn = (cpu: number): void => {
    const stack = stacks[cpu] as Step[][];
    const call = stack.at(-1) as Step[];
    const step = call.shift() as Step;
    truth.events.push(step());
    if (call.length === 0) stack.pop();
  };
  for (const choice of choices) {
    const cpu = choice % CPUS;
    const what = Math.floor(choice / CPUS);
    const stack = stacks[cpu] as Step[][];
    // A task, an interrupt, and one that interrupts that.
    if (stack.length > 0 && (what % 3 !== 0 || stack.length > 2)) goOn(cpu);
    else if (live.length > 0 && what % 2 === 0) {
      const [mapping] = live.splice(what % live.length, 1);
      stack.push(unmapCall(cpu, mapping as TrueMapping));
    } else stack.push(mapCall(cpu, what));
  }
  for (const [cpu, stack] of stacks.entries()) while (stack.length > 0) goOn(cpu);
  return truth;
}

/** Two scatterlist entries to a run of two pages, so that entries are merged. */
function entriesOf(runs: readonly Segment[]): number[] {
  return runs.flatMap(({ paddr, lengthBytes }) =>
    Array.from({ length: lengthBytes / PAGE_BYTES }, (_, page) => paddr + page * PAGE_BYTES),
  );
}

const choices = fc.array(fc.nat(10_000), { minLength: 1, maxLength: 300 });

function split(operations: readonly DmaOperation[]): [MapOperation[], UnmapOperation[]] {
  const maps = operations.filter((one) => one.kind === "map");
  return [maps, operations.filter((one) => one.kind === "unmap")];
}

function expectTimeOrder(operations: readonly DmaOperation[]): void {
  const times = operations.map(({ timeNs }) => timeNs);
  expect(times).toEqual([...times].sort((one, other) => one - other));
}

function expectPairs(truth: Truth, operations: readonly DmaOperation[]): void {
  const [maps, unmaps] = split(operations);
  expect(maps.map(({ id, device, sizeBytes }) => ({ id, device, sizeBytes }))).toEqual(
    truth.maps.map(({ number, device, sizeBytes }) => ({
      id: number,
      device: DEVICES[device],
      sizeBytes,
    })),
  );
  expect(unmaps.map(({ id }) => id).sort()).toEqual([...truth.unmaps].sort());
  expectTimeOrder(operations);
}

describe("each map and unmap of a machine comes out once, with its partner", () => {
  test("from dma and iommu events together", () => {
    fc.assert(
      fc.property(choices, (chosen) => {
        const truth = run(chosen);
        const statistics = newOperationStatistics();
        const operations = [...joinOperations(truth.events, statistics)];
        expectPairs(truth, operations);
        const [maps] = split(operations);
        for (const [number, { segments, iova, iommuMaps }] of maps.entries()) {
          const { runs, sg, offset, sizeBytes, iova: start } = truth.maps[number] as TrueMapping;
          const single = [{ paddr: (runs[0] as Segment).paddr + offset, lengthBytes: sizeBytes }];
          expect(segments).toEqual(sg ? runs : single);
          expect([iova, iommuMaps]).toEqual([start, runs.length]);
        }
        const live = truth.maps.length - truth.unmaps.length;
        expect(statistics.live).toBe(live);
        expect(statistics.unmapsOfUnknown).toBe(0);
      }),
      { numRuns: 300 },
    );
  });

  test("from dma events alone", () => {
    fc.assert(
      fc.property(choices, (chosen) => {
        const truth = run(chosen);
        const events = truth.events.filter(({ kind }) => !kind.startsWith("iommu"));
        const operations = [...joinOperations(events)];
        expectPairs(truth, operations);
        for (const { segments, sizeBytes, iommuMaps } of split(operations)[0]) {
          expect(segments.reduce((sum, { lengthBytes }) => sum + lengthBytes, 0)).toBe(sizeBytes);
          expect(iommuMaps).toBe(0);
        }
      }),
      { numRuns: 200 },
    );
  });

  test("from iommu events alone, of one domain", () => {
    fc.assert(
      fc.property(choices, (chosen) => {
        // IOVAs of two domains cannot be told apart.
        const truth = run(chosen, 1);
        const events = truth.events.filter(({ kind }) => kind.startsWith("iommu"));
        const operations = [...joinOperations(events)];
        const [maps, unmaps] = split(operations);
        const mapped = events.filter((event) => event.kind === "iommu_map");
        expect(maps.map(({ iova }) => iova)).toEqual(mapped.map(({ iova }) => iova));
        const bytes = (list: readonly { sizeBytes: number }[]): number =>
          list.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
        expect(bytes(unmaps)).toBe(
          bytes(events.filter(({ kind }) => kind === "iommu_unmap") as []),
        );
        expect(unmaps.every(({ id }) => id !== undefined)).toBe(true);
        expectTimeOrder(operations);
      }),
      { numRuns: 200 },
    );
  });
});

const AT = { timeNs: 1, cpu: 0, pid: 5, task: "t" } as const;
const DEVICE = DEVICES[0] as string;

describe("what the events do not tell", () => {
  test("a scatterlist of more than 128 entries is recovered from its iommu events", () => {
    const runs = Array.from({ length: 200 }, (_, at) => ({
      iova: 0x10_0000 + at * PAGE_BYTES,
      paddr: 0x800_0000 + at * 2 * PAGE_BYTES,
    }));
    const events: CaptureEvent[] = runs.map(({ iova, paddr }) => ({
      kind: "iommu_map",
      ...AT,
      iova,
      paddr,
      sizeBytes: PAGE_BYTES,
    }));
    const traced = runs.slice(0, 128);
    events.push({
      kind: "dma_map_sg",
      ...AT,
      device: DEVICE,
      direction: "to_device",
      attrs: 0,
      paddrs: traced.map(({ paddr }) => paddr),
      dmaAddresses: traced.map(({ iova }) => iova),
      lengths: traced.map(() => PAGE_BYTES),
      fullNents: 200,
      fullEnts: 200,
      truncated: true,
    });
    const [map] = split([...joinOperations(events)])[0];
    expect(map?.segments.map(({ paddr }) => paddr)).toEqual(runs.map(({ paddr }) => paddr));
    expect(map?.truncated).toBe(false);
    // Without them 128 are left, and it is said that some are missing.
    const [cut] = split([...joinOperations(events.slice(200))])[0];
    expect([cut?.segments.length, cut?.truncated]).toEqual([128, true]);
  });

  test("an unmap without its map has no id, and is still one operation", () => {
    const unmap = { ...AT, device: DEVICE, direction: "to_device", attrs: 0 } as const;
    const iommu = { kind: "iommu_unmap", ...AT, sizeBytes: 4096, unmappedBytes: 4096 } as const;
    const events: CaptureEvent[] = [
      { ...iommu, iova: 0x1000 },
      { kind: "dma_unmap", ...unmap, via: "page", dmaAddress: 0x1080, sizeBytes: 64 },
      { ...iommu, iova: 0x9000 },
      { kind: "dma_unmap", ...unmap, via: "page", dmaAddress: 0x9000, sizeBytes: 64 },
      { kind: "dma_unmap_sg", ...unmap, paddrs: [0x5000] },
      { ...iommu, iova: 0x3000 },
    ];
    const unmaps = [...joinOperations(events)] as UnmapOperation[];
    expect(unmaps.map(({ id, dmaAddress, sizeBytes }) => [id, dmaAddress, sizeBytes])).toEqual([
      [undefined, 0x1080, 64],
      [undefined, 0x9000, 64],
      [undefined, 0x3000, 4096],
    ]);
  });

  test("a bounced buffer keeps its own address and counts as bounced", () => {
    const events: CaptureEvent[] = [
      {
        kind: "swiotlb_bounced",
        ...AT,
        device: DEVICE,
        dmaMask: 2 ** 32 - 1,
        address: 0x4200,
        sizeBytes: 512,
        forced: true,
      },
      { kind: "iommu_map", ...AT, iova: 0x1000, paddr: 0x7f000, sizeBytes: PAGE_BYTES },
      {
        kind: "dma_map",
        ...AT,
        via: "page",
        device: DEVICE,
        paddr: 0x4200,
        dmaAddress: 0x1200,
        sizeBytes: 512,
        direction: "to_device",
        attrs: 0,
      },
    ];
    const [map] = split([...joinOperations(events)])[0];
    expect(map?.bouncedBytes).toBe(512);
    expect(map?.segments).toEqual([{ paddr: 0x4200, lengthBytes: 512 }]);
  });

  test("events that never find their partner do not pile up", () => {
    const count = 100_000;
    function* lonely(): Generator<CaptureEvent> {
      for (let at = 0; at < count; at += 1) {
        const iova = (1 + (at >> 1)) * PAGE_BYTES;
        const base = { ...AT, timeNs: at * 1000, iova, sizeBytes: PAGE_BYTES };
        if (at % 2 === 0) yield { kind: "iommu_map", ...base, paddr: iova };
        else yield { kind: "iommu_unmap", ...base, unmappedBytes: PAGE_BYTES };
      }
    }
    const statistics = newOperationStatistics();
    let operations = 0;
    for (const _operation of joinOperations(lonely(), statistics)) operations += 1;
    expect(operations).toBe(count);
    // Each pair is settled together, so that one mapping is live at a time.
    expect([statistics.liveMax, statistics.live]).toEqual([1, 0]);
  });
});

describe("recorded captures", () => {
  test.each([
    // Mappings by shape: those of the dma events, and two MSI doorbells that no dma event is for.
    ["smmu-dump-a.dat", { single: 366, sg: 75, coherent: 13, iommu: 2 }],
    ["smmu-big-strict.dat", { single: 16_107 }],
    ["vtd-text-strict.trace.txt.gz", { single: 5473, sg: 691, coherent: 1 }],
    ["vtd-perf-strict.perf-script.txt.gz", { single: 3519, sg: 118, coherent: 1 }],
  ])("%s: every iommu event belongs to one operation", async (name, shapes) => {
    const { events } = await readWhole(fixturePath(name));
    const statistics = newOperationStatistics();
    const operations = [...joinOperations(events, statistics)];
    const [maps, unmaps] = split(operations);
    const counts: Record<string, number> = {};
    for (const { shape } of maps) counts[shape] = (counts[shape] ?? 0) + 1;
    expect(counts).toEqual(shapes);
    const iommuMaps = maps.reduce((sum, map) => sum + map.iommuMaps, 0);
    expect(iommuMaps).toBe(events.filter(({ kind }) => kind === "iommu_map").length);
    // A dma_free awaits its iommu:unmap as a scatterlist does; there are none of either left.
    expect(unmaps.length).toBe(events.filter(({ kind }) => kind === "iommu_unmap").length);
    expect(statistics.unmapsOfUnknown).toBe(0);
    expect(statistics.live).toBe(maps.length - unmaps.length);
    expect(maps.some(({ lengthsEstimated, truncated }) => lengthsEstimated || truncated)).toBe(
      false,
    );
    for (const { segments, sizeBytes } of maps) {
      expect(segments.reduce((sum, { lengthBytes }) => sum + lengthBytes, 0)).toBe(sizeBytes);
    }
    expectTimeOrder(operations);
  });
});
