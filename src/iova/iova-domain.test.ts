import { readFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";
import fc from "fast-check";
import { expect, test } from "vitest";
import { type Machine, sequentialMachine, timedMachine } from "#machine";
import { genericArm, machineCosts } from "#platform";
import { AllocateFlag, IovaDomain, NO_IOVA } from "./index.js";
import {
  BINS,
  DEPOT_TRIM_DELAY_NS,
  type DepotPolicy,
  MAGAZINE_PFNS,
  UNBOUNDED_DEPOT,
} from "./magazines.js";

/** The last page below 4 GiB. */
const LIMIT_32 = 0xfffff;

function domain(cpuCount: number, granuleBytes = 4096, depot = UNBOUNDED_DEPOT): IovaDomain {
  return new IovaDomain({ granuleBytes, startPfn: 1, cpuCount, depot });
}

/** What a depot may do with full magazines; a bounded one of a single magazine overflows soon. */
const DEPOTS: readonly DepotPolicy[] = [UNBOUNDED_DEPOT, { kind: "bounded", magazinesMax: 1 }];

function allocate(
  machine: Machine,
  from: IovaDomain,
  cpuId: number,
  pages: number,
  limitPfn = LIMIT_32,
): number {
  return machine.call(cpuId, (cpu) => from.allocate(cpu, pages, limitPfn, 0));
}

function free(machine: Machine, to: IovaDomain, cpuId: number, pfn: number, pages: number): void {
  machine.call(cpuId, (cpu) => to.free(cpu, pfn, pages));
}

test("a fresh allocator hands out the addresses that Linux handed out", () => {
  // 454 allocations of an NVMe controller and a NIC from the load of their drivers on, with the
  // sizes and CPUs of each allocation and free; the first page of each is the MSI doorbell's.
  const path = new URL("../../fixtures/iova/linux-allocations.txt.gz", import.meta.url);
  const text = gunzipSync(readFileSync(path)).toString();
  const machine = sequentialMachine({ cpus: 2 });
  const devices = new Map<string, IovaDomain>();
  let allocations = 0;
  for (const line of text.split("\n")) {
    if (line === "" || line.startsWith("#")) continue;
    const [device, operation, cpu, pages, pfn] = line.split(" ");
    const space = devices.get(device) ?? domain(2);
    devices.set(device, space);
    if (operation === "a") {
      const got = allocate(machine, space, Number(cpu), Number(pages));
      expect(got.toString(16)).toBe(pfn);
      allocations++;
    } else free(machine, space, Number(cpu), Number.parseInt(pfn, 16), Number(pages));
  }
  expect(allocations).toBe(454);
});

const steps = fc.array(
  fc.record({
    cpuId: fc.integer({ min: 0, max: 2 }),
    allocates: fc.boolean(),
    // 33 and 40 pages are beyond the caches.
    pages: fc.constantFrom(1, 1, 2, 3, 5, 17, 32, 33, 40),
    below: fc.constantFrom(0, 0, 0, 600, 900),
    repeat: fc.constantFrom(1, 1, 1, 140),
    which: fc.nat(1000),
  }),
  { maxLength: 80 },
);

test.each(DEPOTS)(
  "live ranges are disjoint, aligned and below the limit, none is lost: depot $kind",
  (depot) => {
    fc.assert(
      fc.property(steps, (sequence) => {
        const machine = sequentialMachine({ cpus: 3 });
        // 64 KiB pages: 65536 of them below 4 GiB.
        const space = domain(3, 65536, depot);
        const live: { pfn: number; pages: number }[] = [];
        for (const step of sequence) {
          for (let time = 0; time < step.repeat; time++) {
            if (step.allocates) {
              const limit = 65535 - step.below;
              const pfn = allocate(machine, space, step.cpuId, step.pages, limit);
              expect(pfn).not.toBe(NO_IOVA);
              expect(pfn + step.pages - 1).toBeLessThanOrEqual(limit);
              expect(pfn % 2 ** Math.ceil(Math.log2(step.pages))).toBe(0);
              live.push({ pfn, pages: step.pages });
            } else if (live.length > 0) {
              const [range] = live.splice(step.which % live.length, 1);
              free(machine, space, step.cpuId, range.pfn, range.pages);
            }
          }
          space.check();
          const cached = [...space.cached()].map(({ pfn }) => pfn);
          const held = [...cached, ...live.map(({ pfn }) => pfn)].sort((a, b) => a - b);
          // What the tree holds is in use or in exactly one cache.
          expect([...space.ranges()].map(({ firstPfn }) => firstPfn)).toEqual(held);
        }
        live.sort((a, b) => a.pfn - b.pfn);
        for (let index = 1; index < live.length; index++) {
          const before = live[index - 1];
          expect(before.pfn + before.pages).toBeLessThanOrEqual(live[index].pfn);
        }
      }),
      { numRuns: 60 },
    );
  },
);

test("a freed range comes back to its CPU first, last in first out", () => {
  const machine = sequentialMachine({ cpus: 2 });
  const space = domain(2);
  const pfns = [0, 0, 0].map(() => allocate(machine, space, 0, 1));
  for (const pfn of pfns) free(machine, space, 0, pfn, 1);
  expect(allocate(machine, space, 0, 1)).toBe(pfns[2]);
  expect(allocate(machine, space, 0, 1)).toBe(pfns[1]);
  // The other CPU's caches are empty: it goes to the tree.
  expect(allocate(machine, space, 1, 1)).toBe(pfns[2] - 1);
});

test("a cached range above the limit is left where it is", () => {
  const machine = sequentialMachine();
  const space = domain(1);
  const high = allocate(machine, space, 0, 1);
  const low = allocate(machine, space, 0, 1, 0x1000);
  free(machine, space, 0, low, 1);
  free(machine, space, 0, high, 1);
  expect(allocate(machine, space, 0, 1, 0x1000)).toBe(low);
  expect([...space.cached()]).toEqual([{ pfn: high, pages: 1 }]);
});

test("a third full magazine goes to the depot, where another CPU finds it", () => {
  const machine = sequentialMachine({ cpus: 2 });
  const space = domain(2);
  const pfns: number[] = [];
  for (let index = 0; index < 2 * MAGAZINE_PFNS + 1; index++) {
    pfns.push(allocate(machine, space, 0, 1));
  }
  for (const pfn of pfns) free(machine, space, 0, pfn, 1);
  // The magazine that was loaded when the last page came: the second one that was filled.
  expect(allocate(machine, space, 1, 1)).toBe(pfns[2 * MAGAZINE_PFNS - 1]);
});

test("the depot is trimmed to one magazine per CPU, one in 100 ms, and then left alone", () => {
  const machine = sequentialMachine({ cpus: 2 });
  const space = domain(2);
  const pfns: number[] = [];
  // Two magazines stay with the CPU, five go to the depot, three above one per CPU.
  for (let index = 0; index < 7 * MAGAZINE_PFNS; index++) pfns.push(allocate(machine, space, 0, 1));
  for (const pfn of pfns) free(machine, space, 0, pfn, 1);
  const ranges = () => [...space.ranges()].length / MAGAZINE_PFNS;
  machine.advance(DEPOT_TRIM_DELAY_NS - 1);
  expect(ranges()).toBe(7);
  machine.advance(1);
  expect(ranges()).toBe(6);
  machine.advance(DEPOT_TRIM_DELAY_NS);
  expect(ranges()).toBe(5);
  machine.advance(10 * DEPOT_TRIM_DELAY_NS);
  expect(ranges()).toBe(4);
  space.check();
});

test("the time of the depot's lock counts, of a trim that finds nothing to do too", () => {
  const machine = timedMachine({ cpus: 1, costs: machineCosts(genericArm) });
  const space = domain(1);
  const pfns: number[] = [];
  // Two magazines stay with the CPU, and one goes to the depot, which may keep it.
  for (let index = 0; index < 3 * MAGAZINE_PFNS; index++) pfns.push(allocate(machine, space, 0, 1));
  for (const pfn of pfns) free(machine, space, 0, pfn, 1);
  const counts = () => ({ ...space.common });
  const [before, busyBeforeNs] = [counts(), machine.cpuTime(0).busyNs];
  machine.advance(2 * DEPOT_TRIM_DELAY_NS);
  const [after, busyAfterNs] = [counts(), machine.cpuTime(0).busyNs];
  expect(after.frees).toBe(before.frees);
  expect(after.busyNs).toBeGreaterThan(before.busyNs);
  expect(after.busyNs - before.busyNs).toBeLessThan(busyAfterNs - busyBeforeNs);
});

test("a bounded depot keeps what it takes, and what it does not take goes to the tree whole", () => {
  const machine = sequentialMachine({ cpus: 2 });
  const space = domain(2, 4096, { kind: "bounded", magazinesMax: 3 });
  const pfns: number[] = [];
  for (let index = 0; index < 7 * MAGAZINE_PFNS; index++) pfns.push(allocate(machine, space, 0, 1));
  const inCpu = 2 * MAGAZINE_PFNS;
  for (const pfn of pfns.splice(0, inCpu + 3 * MAGAZINE_PFNS)) free(machine, space, 0, pfn, 1);
  expect(space.common.frees).toBe(0);
  // The next one makes the CPU hand a magazine on that nobody takes.
  free(machine, space, 0, pfns[0], 1);
  expect(space.common.frees).toBe(MAGAZINE_PFNS);
  for (const pfn of pfns.slice(1)) free(machine, space, 0, pfn, 1);
  expect(space.common.frees).toBe(2 * MAGAZINE_PFNS);
  machine.advance(10 * DEPOT_TRIM_DELAY_NS);
  expect([...space.cached()].length).toBe(5 * MAGAZINE_PFNS);
  space.check();
});

test("nothing is trimmed after the domain was destroyed", () => {
  const machine = sequentialMachine();
  const space = domain(1);
  const pfns: number[] = [];
  for (let index = 0; index < 5 * MAGAZINE_PFNS; index++) pfns.push(allocate(machine, space, 0, 1));
  for (const pfn of pfns) free(machine, space, 0, pfn, 1);
  machine.call(0, (cpu) => space.destroy(cpu));
  machine.advance(10 * DEPOT_TRIM_DELAY_NS);
  expect([...space.ranges()].length).toBe(5 * MAGAZINE_PFNS);
});

test("when nothing fits, what all CPUs cache is given back once, if the caller allows it", () => {
  // Pages of 64 MiB: 63 of them from page 1 up to 4 GiB.
  const machine = sequentialMachine({ cpus: 2 });
  const space = domain(2, 2 ** 26);
  const pfns: number[] = [];
  for (let index = 0; index < 63; index++) pfns.push(allocate(machine, space, 0, 1, 63));
  for (const pfn of pfns) free(machine, space, 0, pfn, 1);
  expect(allocate(machine, space, 1, 1, 63)).toBe(NO_IOVA);
  const flags = AllocateFlag.flushCaches;
  expect(machine.call(1, (cpu) => space.allocate(cpu, 1, 63, flags))).toBe(63);
  expect([...space.cached()]).toEqual([]);
});

test("bins hold powers of two up to 32 pages, larger ranges go to the tree", () => {
  const machine = sequentialMachine();
  const space = domain(1);
  for (const pages of [1, 2, 3, 17, 32, 33]) {
    free(machine, space, 0, allocate(machine, space, 0, pages), pages);
  }
  // 3 pages take 4 and 17 take 32, which the request for 32 then reuses; 33 are not kept.
  expect([...space.cached()].map(({ pages }) => pages)).toEqual([1, 2, 4, 32]);
  expect(2 ** (BINS - 1)).toBe(space.cachedPagesMax);
});

test.each(DEPOTS)(
  "CPUs that allocate, free and flush at once share no range and lose none: depot $kind",
  (depot) => {
    const cpus = 8;
    const machine = timedMachine({ cpus, seed: 7, costs: machineCosts(genericArm) });
    const space = domain(cpus, 65536, depot);
    const owners = new Map<number, number>();
    for (let cpuId = 0; cpuId < cpus; cpuId++) {
      machine.start(cpuId, function* (cpu) {
        const mine: number[] = [];
        for (let round = 0; round < 600; round++) {
          if (mine.length < 300 && cpu.random() < 0.6) {
            // Every 50th looks in vain below a limit, which flushes all caches, and makes others
            // believe for a while that two pages do not fit below 4 GiB.
            const limit = round % 50 === 49 ? 1 : 65535;
            const pfn = yield* space.allocate(cpu, 2, limit, AllocateFlag.flushCaches);
            if (pfn === NO_IOVA) continue;
            expect(owners.has(pfn)).toBe(false);
            owners.set(pfn, cpuId);
            mine.push(pfn);
          } else if (mine.length > 0) {
            const pfn = mine.splice(Math.floor(cpu.random() * mine.length), 1)[0];
            owners.delete(pfn);
            yield* space.free(cpu, pfn, 2);
          }
        }
      });
    }
    machine.run();
    space.check();
    const held = [...owners.keys(), ...[...space.cached()].map(({ pfn }) => pfn)];
    expect(held.sort((a, b) => a - b)).toEqual([...space.ranges()].map((range) => range.firstPfn));
  },
);
