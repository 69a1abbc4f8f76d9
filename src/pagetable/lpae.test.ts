import fc from "fast-check";
import { expect, test } from "vitest";
import { GRANULE_4K_LG2, GRANULE_16K_LG2, GRANULE_64K_LG2, HI_SOFTWARE_SYNC } from "#arch/lpae";
import { OutOfFramesError, sequentialMachine } from "#machine";
import { LpaeFormat } from "./lpae-format.js";
import { mappings } from "./mappings.js";
import {
  TestGather,
  tablePages,
  type WatchedOptions,
  watchedTable,
} from "./testing/watched-table.js";
import { Protection } from "./tlb.js";

const PAGE = 2 ** 12;
const BLOCK = 2 ** 21;
const GIANT = 2 ** 30;
const READ_WRITE = Protection.read | Protection.write;

function setUp(options: WatchedOptions = {}, cpus = 1) {
  const machine = sequentialMachine({ cpus });
  const watched = watchedTable(machine, options);
  const { table } = watched;
  const map = (
    iova: number,
    paddr: number,
    pageBytes: number,
    count = 1,
    protection = READ_WRITE,
  ) => machine.call(0, (cpu) => table.mapPages(cpu, iova, paddr, pageBytes, count, protection));
  const unmap = (iova: number, pageBytes: number, count: number, gather: TestGather) =>
    machine.call(0, (cpu) => table.unmapPages(cpu, iova, pageBytes, count, gather));
  const walk = (iova: number) => machine.call(0, (cpu) => table.iovaToPhys(cpu, iova));
  return { machine, ...watched, map, unmap, walk };
}

test("leaves and context descriptor fields are those of a Linux guest, bit for bit", () => {
  // From the memory of a 6.12 guest on an emulated SMMUv3: a coherent NVMe buffer, and the
  // doorbell page of its interrupts.
  const { table, machine, map } = setUp({ oasBits: 44 });
  map(0xfffbe000, 0x477a2000, PAGE, 1, READ_WRITE | Protection.cache);
  const doorbell = Protection.write | Protection.noExecute | Protection.mmio;
  map(0xfffff000, 0x8090000, PAGE, 1, doorbell);
  const lastTable = [...tablePages(machine.memory, table.format, table.rootAddress)].find(
    ([, { level }]) => level === 3,
  );
  const entry = (iova: number) => {
    const lo = machine.memory.read64((lastTable?.[0] ?? 0) + ((iova / PAGE) % 512) * 8);
    return [machine.memory.hi, lo];
  };
  expect(entry(0xfffbe000)).toEqual([0, 0x477a2f47]);
  expect(entry(0xfffff000)).toEqual([0x600000, 0x08090e4b]);
  // Its CD: 0x0002e204c0003510, …, MAIR 0xfffffffff404ff44: T0SZ 16, IR0 1, OR0 1, SH0 3, IPS 4.
  expect(table.controls).toEqual({
    t0sz: 16,
    tg0: 0,
    ir0: 1,
    or0: 1,
    sh0: 3,
    ips: 4,
    mairLo: 0xf404ff44,
    mairHi: 0xffffffff,
  });
});

test("protection survives the way into a leaf and back, but for write-only", () => {
  const format = new LpaeFormat({
    stage: 1,
    granuleLg2: GRANULE_4K_LG2,
    inputBits: 48,
    outputBits: 48,
    coherentWalk: true,
  });
  for (let protection = 1; protection < 64; protection++) {
    for (const level of [1, 2, 3]) {
      const lo = format.leafLo(format.attributesLo(protection, level), 0x1234_4000_0000);
      const hi = format.leafHi(format.attributesHi(protection), 0x1234_4000_0000);
      expect(format.protectionOf(lo, hi)).toBe(protection | Protection.read);
      expect(format.leafAddress(lo, hi, level)).toBe(0x1234_4000_0000);
    }
  }
});

test.each([
  [GRANULE_4K_LG2, 48, 48],
  [GRANULE_4K_LG2, 39, 40],
  [GRANULE_4K_LG2, 32, 44],
  [GRANULE_16K_LG2, 47, 48],
  [GRANULE_16K_LG2, 36, 48],
  [GRANULE_64K_LG2, 48, 48],
  [GRANULE_64K_LG2, 52, 52],
] as const)(
  "granule 2^%i with %i bits in, %i out: leaves go where they should",
  (lg2, ias, oas) => {
    const { table, map, unmap, walk, machine, frames } = setUp({
      granuleLg2: lg2,
      iasBits: ias,
      oasBits: oas,
    });
    const sizes = table.pageSizesBytes;
    const where = fc.record({
      pageBytes: fc.constantFrom(...sizes),
      from: fc.double({ min: 0, max: 1, noNaN: true, maxExcluded: true }),
      to: fc.double({ min: 0, max: 1, noNaN: true, maxExcluded: true }),
      inside: fc.double({ min: 0, max: 1, noNaN: true, maxExcluded: true }),
    });
    fc.assert(
      fc.property(where, ({ pageBytes, from, to, inside }) => {
        const iova = Math.floor((to * 2 ** ias) / pageBytes) * pageBytes;
        const paddr = Math.floor((from * 2 ** oas) / pageBytes) * pageBytes;
        const offset = Math.floor(inside * pageBytes);
        expect(map(iova, paddr, pageBytes)).toBe(pageBytes);
        expect(walk(iova + offset)).toBe(paddr + offset);
        expect([...mappings(machine.memory, table.format, table.rootAddress)]).toEqual([
          { iova, paddr, sizeBytes: pageBytes, protection: READ_WRITE },
        ]);
        const gather = new TestGather(false);
        expect(unmap(iova, pageBytes, 1, gather)).toBe(pageBytes);
        expect(walk(iova + offset)).toBe(-1);
      }),
      // Each mapping is looked for in every table made so far: more runs cost more than they find.
      { numRuns: 12 },
    );
    machine.call(0, (cpu) => table.destroy(cpu));
    expect(frames.liveBytes).toBe(0);
  },
);

test("what lies outside of input or output range is refused", () => {
  const { table, map, unmap, walk } = setUp({ iasBits: 40, oasBits: 40 });
  expect(map(2 ** 40 - PAGE, 0, PAGE)).toBe(PAGE);
  expect(map(2 ** 40 - PAGE, 0, PAGE, 2)).toBe(0);
  expect(table.failure).toBe("out of range");
  expect(map(0, 2 ** 40 - PAGE, PAGE, 2)).toBe(0);
  expect(table.failure).toBe("out of range");
  expect(unmap(2 ** 40, PAGE, 1, new TestGather(false))).toBe(0);
  expect(walk(2 ** 40)).toBe(-1);
});

test("a size that the format has no leaf for is refused", () => {
  const { table, map, unmap } = setUp();
  // 512 GiB would be a block at level 0, which 4 KiB granules do not have.
  expect(map(0, 0, 2 ** 39)).toBe(0);
  expect(table.failure).toBe("unsupported size");
  expect(unmap(0, 2 ** 39, 1, new TestGather(false))).toBe(0);
});

test("a mapping that allows nothing succeeds and maps nothing", () => {
  const { table, map, walk } = setUp();
  expect(map(0, 0x5000, PAGE, 4, Protection.cache)).toBe(4 * PAGE);
  expect(table.failure).toBeUndefined();
  expect(walk(0)).toBe(-1);
});

test("without memory for a table a map says so, and what is mapped before stays counted", () => {
  // Top, three tables down to the first page, and none for the second last-level table.
  const { table, map, walk, frames, machine } = setUp({ framesBytes: 4 * PAGE });
  expect(map(BLOCK - PAGE, 0x8000, PAGE, 2)).toBe(PAGE);
  expect(table.failure).toBe("no memory");
  expect(walk(BLOCK - PAGE)).toBe(0x8000);
  expect(walk(BLOCK)).toBe(-1);
  machine.call(0, (cpu) => table.destroy(cpu));
  expect(frames.liveBytes).toBe(0);
});

test("without memory for its top there is no table", () => {
  expect(() => setUp({ framesBytes: PAGE - 1 })).toThrow(OutOfFramesError);
});

test("splitting without memory unmaps nothing", () => {
  const { table, map, unmap, walk } = setUp({ framesBytes: 3 * PAGE, unmapPartOfBlock: "split" });
  map(0, 0, BLOCK);
  expect(unmap(0, PAGE, 1, new TestGather(false))).toBe(0);
  expect(table.unmapOfPartCount).toBe(1);
  expect(walk(0)).toBe(0);
});

test("stops of an unmap are counted by their reason", () => {
  const { table, map, unmap } = setUp();
  map(0, 0, BLOCK);
  unmap(PAGE, PAGE, 1, new TestGather(false));
  expect([table.unmapOfNothingCount, table.unmapOfPartCount]).toEqual([0, 1]);
  unmap(GIANT, PAGE, 1, new TestGather(false));
  expect([table.unmapOfNothingCount, table.unmapOfPartCount]).toEqual([1, 1]);
});

test("two CPUs that need the same tables install one each, and the loser frees its own", () => {
  // Allocation lets the other CPU run: both find the entry empty and both bring a table.
  const { machine, table, frames, events, walk } = setUp({ allocationDelayNs: 1 }, 2);
  events.length = 0;
  for (const cpuId of [0, 1]) {
    machine.start(cpuId, function* (cpu) {
      const iova = GIANT + cpuId * PAGE;
      yield* table.mapPages(cpu, iova, 0x10000 * (cpuId + 1), PAGE, 1, READ_WRITE);
    });
  }
  machine.run();
  const pages = tablePages(machine.memory, table.format, table.rootAddress);
  // One table at each of the levels 1 to 3 for both, beside the top.
  expect([...pages.values()].map(({ level }) => level)).toEqual([1, 2, 3]);
  expect(events.filter(({ kind }) => kind === "allocate").length).toBeGreaterThan(3);
  expect(frames.liveBytes).toBe(4 * PAGE);
  expect([walk(GIANT), walk(GIANT + PAGE)]).toEqual([0x10000, 0x20000]);
});

test("two CPUs that split the same block make one table of it", () => {
  const options = { allocationDelayNs: 1, unmapPartOfBlock: "split" } as const;
  const { machine, table, frames, map, walk } = setUp(options, 2);
  map(0, 0, BLOCK);
  for (const cpuId of [0, 1]) {
    machine.start(cpuId, function* (cpu) {
      const gather = new TestGather(false);
      const cut = yield* table.unmapPages(cpu, cpuId * 2 * PAGE, PAGE, 1, gather);
      expect(cut).toBe(PAGE);
      expect(gather.ranges).toEqual([{ iova: cpuId * 2 * PAGE, sizeBytes: PAGE, pageBytes: PAGE }]);
    });
  }
  machine.run();
  expect([0, 1, 2, 3].map((page) => walk(page * PAGE))).toEqual([-1, PAGE, -1, 3 * PAGE]);
  expect(frames.liveBytes).toBe(4 * PAGE);
});

test("a table entry says that it is written back only where walks do not snoop", () => {
  for (const coherentWalk of [true, false]) {
    const { machine, table, map } = setUp({ coherentWalk });
    map(0, 0, PAGE);
    machine.memory.read64(table.rootAddress);
    expect(machine.memory.hi & HI_SOFTWARE_SYNC).toBe(coherentWalk ? 0 : HI_SOFTWARE_SYNC);
    expect(table.controls).toMatchObject(
      coherentWalk ? { ir0: 1, or0: 1, sh0: 3 } : { ir0: 0, or0: 0, sh0: 2 },
    );
  }
});
