import fc from "fast-check";
import { expect, test } from "vitest";
import { type Cpu, type Routine, sequentialMachine, timedMachine } from "#machine";
import { genericArm, machineCosts } from "#platform";
import { ReferenceTree } from "./testing/reference-tree.js";
import { IovaTree, powerOfTwoAtLeast } from "./tree.js";

/** With pages of 64 MiB, 4 GiB are 64 pages: small enough to fill up and to look at each page. */
const GRANULE_LG2 = 26;
const ABOVE_32 = 64;

const steps = fc.array(
  fc.oneof(
    {
      weight: 5,
      arbitrary: fc.record({
        kind: fc.constant("allocate" as const),
        pages: fc.integer({ min: 1, max: 20 }),
        lastPfn: fc.oneof(
          fc.constant(ABOVE_32 - 1),
          fc.integer({ min: 0, max: 50 }),
          fc.integer({ min: ABOVE_32, max: 100 }),
        ),
      }),
    },
    { weight: 4, arbitrary: fc.record({ kind: fc.constant("free" as const), which: fc.nat(99) }) },
    {
      weight: 1,
      arbitrary: fc.record({
        kind: fc.constant("reserve" as const),
        first: fc.integer({ min: 0, max: 90 }),
        pages: fc.integer({ min: 1, max: 9 }),
      }),
    },
  ),
  { maxLength: 120 },
);

test("every allocation is the one that the rules name, whatever went before", () => {
  fc.assert(
    fc.property(steps, fc.integer({ min: 1, max: 5 }), (sequence, startPfn) => {
      const machine = sequentialMachine();
      const run = <T>(body: (cpu: Cpu) => Routine<T>) => machine.call(0, body);
      const tree = new IovaTree({ granuleLg2: GRANULE_LG2, startPfn });
      const reference = new ReferenceTree(ABOVE_32, startPfn);
      const live: number[] = [];
      let reserving = true;
      for (const step of sequence) {
        if (step.kind === "allocate") {
          reserving = false;
          const pfn = run((cpu) => tree.allocate(cpu, step.pages, step.lastPfn));
          expect(pfn).toBe(reference.allocate(step.pages, step.lastPfn));
          if (pfn !== 0) live.push(pfn);
        } else if (step.kind === "free" && live.length > 0) {
          const [pfn] = live.splice(step.which % live.length, 1);
          run((cpu) => tree.free(cpu, pfn));
          reference.free(pfn);
        } else if (step.kind === "reserve" && reserving) {
          run((cpu) => tree.reserve(cpu, step.first, step.first + step.pages - 1));
          reference.reserve(step.first, step.first + step.pages - 1);
        }
        tree.check();
      }
      const taken = new Set<number>();
      for (const range of tree.ranges()) {
        for (let pfn = range.firstPfn; pfn <= range.lastPfn; pfn++) taken.add(pfn);
      }
      for (let pfn = 0; pfn <= 100; pfn++) expect(taken.has(pfn)).toBe(reference.isTaken(pfn));
    }),
    { numRuns: 300 },
  );
});

test("ranges are handed out top-down, aligned to the power of two that holds them", () => {
  const machine = sequentialMachine();
  const tree = new IovaTree({ granuleLg2: 12, startPfn: 1 });
  const take = (pages: number) => machine.call(0, (cpu) => tree.allocate(cpu, pages, 0xfffff));
  expect(take(1)).toBe(0xfffff);
  // 4-aligned, below the page taken first; the 4th page of its place stays free.
  expect(take(3)).toBe(0xffffc);
  expect(take(16)).toBe(0xfffe0);
});

test("space below 4 GiB is searched again once something there was freed", () => {
  const machine = sequentialMachine();
  const tree = new IovaTree({ granuleLg2: GRANULE_LG2, startPfn: 1 });
  const take = (pages: number) => machine.call(0, (cpu) => tree.allocate(cpu, pages, 63));
  const first = take(32);
  expect(first).toBe(32);
  expect(take(32)).toBe(0);
  machine.call(0, (cpu) => tree.free(cpu, first));
  expect(take(32)).toBe(32);
});

test("a range that is freed twice is noticed", () => {
  const machine = sequentialMachine();
  const tree = new IovaTree({ granuleLg2: 12, startPfn: 1 });
  const pfn = machine.call(0, (cpu) => tree.allocate(cpu, 1, 0xfffff));
  machine.call(0, (cpu) => tree.free(cpu, pfn));
  expect(() => machine.call(0, (cpu) => tree.free(cpu, pfn))).toThrow(/0xfffff starts a taken/);
});

test("powerOfTwoAtLeast is the smallest power of two that is not smaller", () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 2 ** 45 }), (count) => {
      const power = powerOfTwoAtLeast(count);
      expect(Number.isInteger(Math.log2(power))).toBe(true);
      expect(power >= count && power / 2 < count).toBe(true);
    }),
  );
  for (const power of [1, 2, 2 ** 30, 2 ** 31, 2 ** 32, 2 ** 44]) {
    expect(powerOfTwoAtLeast(power)).toBe(power);
    if (power > 2) expect(powerOfTwoAtLeast(power - 1)).toBe(power);
  }
});

test("what tools read of the tree is nobody's time", () => {
  const endNs = (reads: boolean): number => {
    const machine = timedMachine({ cpus: 1, costs: machineCosts(genericArm) });
    const tree = new IovaTree({ granuleLg2: GRANULE_LG2, startPfn: 1 });
    for (let round = 0; round < 8; round++) {
      machine.call(0, (cpu) => tree.allocate(cpu, 1, ABOVE_32 - 1));
      if (reads) expect([...tree.ranges()].length).toBe(round + 1);
    }
    return machine.nowNs;
  };
  expect(endNs(true)).toBe(endNs(false));
});
