import fc from "fast-check";
import { expect, test } from "vitest";
import { Direction, mapSg, type ScatterList, scatterList, unmapSg } from "./index.js";
import { type Rig, type RigOptions, rig } from "./testing/setup.js";

const GRANULE = 4096;
const RAM = 0x4000_0000;
const { fromDevice } = Direction;

function map({ machine, device }: Rig, list: ScatterList): number {
  return machine.call(0, (cpu) => mapSg(cpu, device, list, fromDevice));
}

function unmap({ machine, device }: Rig, list: ScatterList): void {
  machine.call(0, (cpu) => unmapSg(cpu, device, list, fromDevice));
}

function places(list: ScatterList): (readonly [number, number])[] {
  return list.elements.map(({ paddr, sizeBytes }) => [paddr, sizeBytes] as const);
}

function segments(list: ScatterList, count: number): (readonly [number, number])[] {
  return list.elements.slice(0, count).map((e) => [e.dmaAddress, e.dmaBytes] as const);
}

/** Pieces of up to 16 KiB; whole pages often, one behind the other in memory sometimes. */
const pieces = fc
  .array(
    fc.record({
      page: fc.integer({ min: 0, max: 200 }),
      offset: fc.oneof(fc.constant(0), fc.integer({ min: 0, max: GRANULE - 1 })),
      sizeBytes: fc.oneof(
        fc.constantFrom(GRANULE, 2 * GRANULE, 4 * GRANULE),
        fc.integer({ min: 1, max: 4 * GRANULE }),
      ),
      follows: fc.boolean(),
    }),
    { minLength: 1, maxLength: 12 },
  )
  .map((drafts) => {
    let end = 0;
    return drafts.map(({ page, offset, sizeBytes, follows }) => {
      // Padding at a boundary maps what lies behind a piece: leave room between pages.
      const paddr = follows && end > 0 ? end : RAM + page * 64 * GRANULE + offset;
      end = paddr + sizeBytes;
      return { paddr, sizeBytes };
    });
  });

const limits = fc.record({
  maxSegmentBytes: fc.constantFrom(4 * GRANULE, 5 * GRANULE + 512, 65536),
  segmentBoundaryBytes: fc.constantFrom(8 * GRANULE, 16 * GRANULE, Number.POSITIVE_INFINITY),
});

test("segments hold the list's bytes in order, within length and boundary; unmap leaves no trace", () => {
  fc.assert(
    fc.property(pieces, limits, (drafts, options) => {
      const all = rig(options);
      const { machine, iommu } = all;
      const list = scatterList(drafts);
      const before = places(list);
      const count = map(all, list);
      expect(count).toBeGreaterThan(0);
      expect(count).toBeLessThanOrEqual(drafts.length);
      expect(places(list)).toEqual(before);
      // Every piece in turn, cut where segments or pages end, must be what the device sees.
      let piece = 0;
      let done = 0;
      for (const [dmaAddress, dmaBytes] of segments(list, count)) {
        expect(dmaBytes).toBeLessThanOrEqual(options.maxSegmentBytes);
        const boundary = options.segmentBoundaryBytes;
        const last = dmaAddress + dmaBytes - 1;
        expect(Math.floor(dmaAddress / boundary)).toBe(Math.floor(last / boundary));
        for (let at = 0; at < dmaBytes; ) {
          const iova = dmaAddress + at;
          const expected = drafts[piece].paddr + done;
          expect(machine.call(0, (cpu) => iommu.domain.iovaToPhys(cpu, iova))).toBe(expected);
          const inPage = GRANULE - (iova % GRANULE);
          const step = Math.min(dmaBytes - at, drafts[piece].sizeBytes - done, inPage);
          at += step;
          done += step;
          if (done === drafts[piece].sizeBytes) {
            piece++;
            done = 0;
          }
        }
      }
      expect(piece).toBe(drafts.length);
      for (const element of list.elements.slice(count)) expect(element.dmaBytes).toBe(0);
      unmap(all, list);
      expect(places(list)).toEqual(before);
      expect(iommu.domain.leaves.size).toBe(0);
      expect(iommu.domain.calls.filter((call) => call.kind === "sync").length).toBe(1);
    }),
    { numRuns: 300 },
  );
});

test("a list that cannot be mapped is as it was, and keeps neither address nor entry", () => {
  fc.assert(
    fc.property(pieces, fc.integer({ min: 0, max: 20 }), limits, (drafts, pagesLeft, options) => {
      const all = rig(options);
      const list = scatterList(drafts);
      const before = places(list);
      all.iommu.domain.mapBytesLeft = pagesLeft * GRANULE;
      const count = map(all, list);
      expect(places(list)).toEqual(before);
      if (count > 0) return;
      expect(list.elements.every((element) => element.dmaBytes === 0)).toBe(true);
      expect(all.iommu.domain.leaves.size).toBe(0);
      // The same address comes again: it was given back.
      all.iommu.domain.mapBytesLeft = Number.POSITIVE_INFINITY;
      const fresh = rig(options);
      const other = scatterList(drafts);
      expect(segments(list, map(all, list))).toEqual(segments(other, map(fresh, other)));
    }),
    { numRuns: 150 },
  );
});

test("whole pages become one segment wherever they lie", () => {
  const all = rig();
  const list = scatterList([
    { paddr: RAM + 0x5000, sizeBytes: GRANULE },
    { paddr: RAM, sizeBytes: GRANULE },
    { paddr: RAM + 0x9000, sizeBytes: 100 },
  ]);
  expect(map(all, list)).toBe(1);
  expect(segments(list, 1)).toEqual([[0xffffc000, 2 * GRANULE + 100]]);
});

test("a piece that ends or begins inside a page begins a segment", () => {
  const all = rig();
  const list = scatterList([
    { paddr: RAM, sizeBytes: 100 },
    { paddr: RAM + 0x4000, sizeBytes: GRANULE },
    { paddr: RAM + 0x8800, sizeBytes: 0x800 },
    { paddr: RAM + 0xa000, sizeBytes: GRANULE },
  ]);
  expect(map(all, list)).toBe(3);
  expect(segments(list, 3)).toEqual([
    [0xffffc000, 100],
    [0xffffd000, GRANULE],
    // Up to the end of its page, so the last piece follows without a gap.
    [0xffffe800, 0x800 + GRANULE],
  ]);
});

test("a piece that would cross a boundary is put behind it, and what lies between is padding", () => {
  const options: RigOptions = { segmentBoundaryBytes: 4 * GRANULE };
  const all = rig(options);
  const list = scatterList([
    { paddr: RAM, sizeBytes: 3 * GRANULE },
    { paddr: RAM + 0x10000, sizeBytes: 2 * GRANULE },
  ]);
  expect(map(all, list)).toBe(2);
  // 3 pages, 1 of padding, 2 pages: 6, aligned to 8.
  expect(segments(list, 2)).toEqual([
    [0xffff8000, 3 * GRANULE],
    [0xffffc000, 2 * GRANULE],
  ]);
});

test("without translation every piece is a segment of its own", () => {
  const all = rig({ iommu: undefined, maskBits: 32 });
  const list = scatterList([
    { paddr: RAM, sizeBytes: GRANULE },
    { paddr: RAM + GRANULE, sizeBytes: 10 },
  ]);
  expect(map(all, list)).toBe(2);
  expect(segments(list, 2)).toEqual([
    [RAM, GRANULE],
    [RAM + GRANULE, 10],
  ]);
  unmap(all, list);
  const far = scatterList([
    { paddr: RAM, sizeBytes: 1 },
    { paddr: 2 ** 32, sizeBytes: 1 },
  ]);
  expect(map(all, far)).toBe(0);
  expect(far.elements[0].dmaBytes).toBe(0);
});

test("a list for an untrusted device is mapped piece by piece, and fails as a whole", () => {
  const all = rig({ untrusted: true });
  const pages = scatterList([
    { paddr: RAM, sizeBytes: GRANULE },
    { paddr: RAM + 0x4000, sizeBytes: GRANULE },
  ]);
  expect(map(all, pages)).toBe(2);
  unmap(all, pages);
  expect(all.iommu.domain.leaves.size).toBe(0);
  const partial = scatterList([
    { paddr: RAM, sizeBytes: GRANULE },
    { paddr: RAM + 0x4000, sizeBytes: 100 },
  ]);
  expect(map(all, partial)).toBe(0);
  expect(all.iommu.domain.leaves.size).toBe(0);
});

test("a list is unmapped once", () => {
  const all = rig();
  const list = scatterList([{ paddr: RAM, sizeBytes: GRANULE }]);
  map(all, list);
  unmap(all, list);
  expect(() => unmap(all, list)).toThrow(/was mapped/);
});
