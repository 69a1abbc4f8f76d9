import fc from "fast-check";
import { expect, test } from "vitest";
import { sequentialMachine } from "#machine";
import { Protection } from "#pagetable";
import { IotlbGather } from "./gather.js";
import { iommuMap, iommuMapSg } from "./map.js";
import { MapStatus } from "./status.js";
import { RecordingDomain } from "./testing/recording-domain.js";
import { tableDomain } from "./testing/table-domain.js";
import { iommuUnmap, iommuUnmapFast } from "./unmap.js";

const PAGE = 2 ** 12;
const BLOCK = 2 ** 21;
const GIANT = 2 ** 30;
const READ_WRITE = Protection.read | Protection.write;

function setUp() {
  const machine = sequentialMachine();
  const domain = new RecordingDomain();
  const map = (iova: number, paddr: number, sizeBytes: number) =>
    machine.call(0, (cpu) => iommuMap(cpu, domain, iova, paddr, sizeBytes, READ_WRITE));
  const unmap = (iova: number, sizeBytes: number) =>
    machine.call(0, (cpu) => iommuUnmap(cpu, domain, iova, sizeBytes));
  return { machine, domain, map, unmap };
}

function shapes(domain: RecordingDomain, kind: "map" | "unmap") {
  return domain.calls.flatMap((call) =>
    call.kind === kind ? [[call.iova, call.pageBytes, call.pageCount]] : [],
  );
}

test("a range takes pages up to the first block, blocks, and pages after the last", () => {
  const { domain, map, unmap } = setUp();
  const iova = GIANT - BLOCK - PAGE;
  const sizeBytes = PAGE + BLOCK + GIANT + 2 * PAGE;
  expect(map(iova, iova + 4 * GIANT, sizeBytes)).toBe(MapStatus.mapped);
  const expected = [
    [iova, PAGE, 1],
    [iova + PAGE, BLOCK, 1],
    [GIANT, GIANT, 1],
    [2 * GIANT, PAGE, 2],
  ];
  expect(shapes(domain, "map")).toEqual(expected);
  expect(unmap(iova, sizeBytes)).toBe(sizeBytes);
  expect(shapes(domain, "unmap")).toEqual(expected);
  expect(domain.leaves.size).toBe(0);
  expect(domain.staleIovas).toEqual([]);
});

test("one page is one call of the driver", () => {
  const { domain, map } = setUp();
  map(0xffff_f000, 0x4000_0000, PAGE);
  expect(shapes(domain, "map")).toEqual([[0xffff_f000, PAGE, 1]]);
});

test.each([
  ["IOVA", 0x800, 0, PAGE],
  ["physical address", 0, 0x800, PAGE],
  ["size", 0, 0, PAGE + 1],
  ["size 0", 0, 0, 0],
])(
  "%s: what is no whole number of pages is refused before anything is done",
  (_what, iova, paddr, bytes) => {
    const { domain, map } = setUp();
    expect(map(iova, paddr, bytes)).toBe(MapStatus.invalid);
    expect(domain.calls).toEqual([]);
  },
);

test("an unmap that is not of whole pages does nothing", () => {
  const { domain, map, unmap } = setUp();
  map(0, 0, PAGE);
  expect(unmap(0, 100)).toBe(0);
  expect(unmap(100, PAGE)).toBe(0);
  expect(domain.leaves.size).toBe(1);
});

test("a map that fails halfway unmaps and invalidates what it did", () => {
  const { domain, map } = setUp();
  domain.mapBytesLeft = BLOCK + PAGE;
  expect(map(BLOCK - PAGE, BLOCK - PAGE, 4 * BLOCK)).toBe(MapStatus.noMemory);
  expect(domain.leaves.size).toBe(0);
  expect(domain.staleIovas).toEqual([]);
});

test("a map into something mapped leaves that as it was", () => {
  const { domain, map } = setUp();
  map(2 * PAGE, 0x1_0000, PAGE);
  expect(map(0, 0x8_0000, 4 * PAGE)).toBe(MapStatus.exists);
  expect(domain.describe()).toBe("0x2000+0x1000 -> 0x10000");
});

test("a map beyond the aperture is out of range", () => {
  const { map } = setUp();
  expect(map(2 ** 48, 0, PAGE)).toBe(MapStatus.outOfRange);
});

test("an unmap stops at a hole and says how far it came", () => {
  const { map, unmap } = setUp();
  map(0, 0, 2 * PAGE);
  map(3 * PAGE, 0, PAGE);
  expect(unmap(0, 4 * PAGE)).toBe(2 * PAGE);
});

test("a fast unmap invalidates nothing; a queued one does not even gather", () => {
  const { machine, domain, map } = setUp();
  map(0, 0, 4 * PAGE);
  const gather = new IotlbGather();
  machine.call(0, (cpu) => iommuUnmapFast(cpu, domain, 0, 2 * PAGE, gather));
  expect([gather.firstIova, gather.lastIova]).toEqual([0, 2 * PAGE - 1]);
  gather.begin(true);
  machine.call(0, (cpu) => iommuUnmapFast(cpu, domain, 2 * PAGE, 2 * PAGE, gather));
  expect(gather.pageBytes).toBe(0);
  expect(domain.calls.some((call) => call.kind === "sync")).toBe(false);
  expect(domain.staleIovas.length).toBe(4);
});

test("neighbours in memory are mapped as one range and can share a block", () => {
  const { machine, domain } = setUp();
  const half = BLOCK / 2;
  const list = [
    { paddr: GIANT, sizeBytes: half },
    { paddr: GIANT + half, sizeBytes: half },
    { paddr: 0x7000, sizeBytes: PAGE },
  ];
  const bytes = machine.call(0, (cpu) =>
    iommuMapSg(cpu, domain, BLOCK, list, list.length, READ_WRITE),
  );
  expect(bytes).toBe(BLOCK + PAGE);
  expect(shapes(domain, "map")).toEqual([
    [BLOCK, BLOCK, 1],
    [2 * BLOCK, PAGE, 1],
  ]);
});

test("a list that fails halfway leaves nothing mapped", () => {
  const { machine, domain } = setUp();
  domain.mapBytesLeft = 3 * PAGE;
  const list = [
    { paddr: 0x10000, sizeBytes: 2 * PAGE },
    { paddr: 0x20000, sizeBytes: 2 * PAGE },
  ];
  const status = machine.call(0, (cpu) => iommuMapSg(cpu, domain, 0, list, 2, READ_WRITE));
  expect(status).toBe(MapStatus.noMemory);
  expect(domain.leaves.size).toBe(0);
  expect(domain.staleIovas).toEqual([]);
});

test("on a real table every byte of a range translates to its own, and none after unmap", () => {
  const address = fc.tuple(fc.nat({ max: 3 }), fc.nat({ max: 1023 }));
  fc.assert(
    fc.property(
      address,
      address,
      fc.integer({ min: 1, max: 1300 }),
      fc.boolean(),
      (to, from, n, same) => {
        const machine = sequentialMachine();
        const domain = tableDomain(machine);
        const iova = GIANT - BLOCK + to[0] * BLOCK + to[1] * PAGE;
        // Congruent addresses allow blocks, others do not.
        const paddr = same ? iova + 8 * GIANT : from[0] * BLOCK + from[1] * PAGE;
        const sizeBytes = n * PAGE;
        const walk = (at: number) => machine.call(0, (cpu) => domain.iovaToPhys(cpu, at));
        const status = machine.call(0, (cpu) =>
          iommuMap(cpu, domain, iova, paddr, sizeBytes, READ_WRITE),
        );
        expect(status).toBe(MapStatus.mapped);
        for (let offset = 0; offset < sizeBytes; offset += 37 * PAGE + 1) {
          expect(walk(iova + offset)).toBe(paddr + offset);
        }
        expect(walk(iova - 1)).toBe(-1);
        expect(walk(iova + sizeBytes)).toBe(-1);
        expect(machine.call(0, (cpu) => iommuUnmap(cpu, domain, iova, sizeBytes))).toBe(sizeBytes);
        for (let offset = 0; offset < sizeBytes; offset += 37 * PAGE + 1) {
          expect(walk(iova + offset)).toBe(-1);
        }
        // Each byte is in one leaf invalidation, also where a whole table went with a walk flush.
        const covered = domain.invalidations
          .filter((entry) => entry.kind === "leaf")
          .reduce((sum, entry) => sum + entry.sizeBytes, 0);
        expect(covered).toBe(sizeBytes);
      },
    ),
    { numRuns: 60 },
  );
});
