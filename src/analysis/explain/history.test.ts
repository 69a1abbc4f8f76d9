import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { DmaOperation, MapOperation, UnmapOperation } from "#capture";
import { type Explained, explained, type FaultTarget } from "./explained.js";
import { HistorySearch, type MappingHistory } from "./history.js";
import { historyLines, withHistory } from "./verdict.js";

const DEVICE = "0000:00:01.0";
const SECOND_NS = 1e9;

function map(
  id: number,
  seconds: number,
  iova: number,
  sizeBytes: number,
  more: Partial<MapOperation> = {},
): MapOperation {
  return {
    kind: "map",
    id,
    timeNs: seconds * SECOND_NS,
    cpu: 3,
    pid: 42,
    task: "fio",
    device: DEVICE,
    shape: "single",
    segments: [{ paddr: 0x4000_0000 + iova, lengthBytes: sizeBytes }],
    sizeBytes,
    direction: "to_device",
    attrs: 0,
    dmaAddress: iova,
    iova,
    iommuMaps: 1,
    bouncedBytes: 0,
    lengthsEstimated: false,
    truncated: false,
    ...more,
  };
}

function unmap(id: number, seconds: number, device = DEVICE): UnmapOperation {
  return {
    kind: "unmap",
    id,
    timeNs: seconds * SECOND_NS,
    cpu: 1,
    pid: 0,
    task: "<idle>",
    device,
    shape: "single",
    dmaAddress: undefined,
    sizeBytes: 0,
  };
}

function fault(iova: number, seconds?: number, more: Partial<FaultTarget> = {}): FaultTarget {
  return {
    streamId: 8,
    device: undefined,
    iova,
    access: "read",
    timeSeconds: seconds,
    event: "F_TRANSLATION",
    isStage2: false,
    ...more,
  };
}

function historyOf(target: FaultTarget, operations: readonly DmaOperation[]): MappingHistory {
  const search = new HistorySearch([target], { device: undefined, timeSeconds: undefined });
  for (const operation of operations) search.take(operation);
  return search.results()[0];
}

function causeOf(target: FaultTarget, operations: readonly DmaOperation[]): string {
  const one: Explained = explained({ kind: "event", title: "", text: "", fault: target });
  return withHistory(one, historyOf(target, operations)).causes[0]?.cause ?? "none";
}

describe("the mapping that a fault hit", () => {
  it("was unmapped before: by whom and how long ago", () => {
    const cause = causeOf(fault(0x1000, 2.00005), [
      map(0, 1, 0x1000, 4096),
      unmap(0, 2),
      map(1, 3, 0x9000, 4096),
      unmap(1, 4),
    ]);
    expect(cause).toMatch(/^use after unmap: the device accessed 0x1000-0x1fff 50\.0 µs after/);
  });

  it("ended just before the address: how many bytes past the end", () => {
    const operations = [map(0, 1, 0x1_0000, 8192), unmap(0, 9)];
    expect(causeOf(fault(0x1_2000, 5), operations)).toMatch(/^an overrun: .* at its very end/);
    expect(causeOf(fault(0x1_2040, 5), operations)).toMatch(/64 bytes past its end/);
  });

  it("began just behind the address: how many bytes before", () => {
    const operations = [map(0, 1, 0x1_0000, 8192), unmap(0, 9)];
    expect(causeOf(fault(0xfff0, 5), operations)).toMatch(/^an underrun: .* 16 bytes before/);
  });

  it("was of the wrong direction for a write that was not permitted", () => {
    const target = fault(0x1010, 5, { event: "F_PERMISSION", access: "write" });
    const operations = [map(0, 1, 0x1000, 4096), unmap(0, 9)];
    expect(causeOf(target, operations)).toMatch(/wrote to what was mapped to_device/);
  });

  it("came only later", () => {
    const operations = [map(0, 1, 0x80_0000, 4096), map(1, 7, 0x1000, 4096), unmap(0, 9)];
    expect(causeOf(fault(0x1000, 5), operations)).toMatch(/mapped only later/);
  });

  it("has the address as its physical address", () => {
    const operations = [map(0, 1, 0x80_0000, 4096), unmap(0, 9)];
    expect(causeOf(fault(0x4080_0010, 5), operations)).toMatch(/given a physical address/);
  });

  it("counts by whole pages, as an IOMMU maps", () => {
    const operations = [map(0, 1, 0x1100, 64), unmap(0, 2), map(1, 8, 0x9000, 1)];
    expect(causeOf(fault(0x1f00, 3), operations)).toMatch(/^use after unmap/);
  });

  it("is looked for in all of the capture when the time is not known, or outside of it", () => {
    const operations = [map(0, 1, 0x1000, 4096), unmap(0, 2)];
    for (const seconds of [undefined, 0.5, 99]) {
      const history = historyOf(fault(0x1000, seconds), operations);
      expect(history.timeSeconds).toBeUndefined();
      expect(history.covering).toHaveLength(1);
    }
  });

  it("is of the device with the stream id, by all or by its low 16 bits", () => {
    const others = [map(0, 1, 0x1000, 4096, { device: "0000:00:02.0" })];
    expect(historyOf(fault(0x1000), others).maps).toBe(0);
    expect(historyLines(fault(0x1000), historyOf(fault(0x1000), others))[0]).toMatch(/--device/);
    const high = fault(0x1000, undefined, { streamId: 0x3_0008 });
    const history = historyOf(high, [map(0, 1, 0x1000, 4096)]);
    expect(history).toMatchObject({ devices: [DEVICE], isByLowBits: true });
    const named = fault(0x1000, undefined, { device: "0000:00:02.0", streamId: 8 });
    expect(historyOf(named, others).maps).toBe(1);
  });
});

describe("a search through random operations", () => {
  /** Lives of mappings on 32 pages; one address has one mapping at a time. */
  const lives = fc.array(
    fc.record({
      page: fc.nat({ max: 31 }),
      pages: fc.integer({ min: 1, max: 3 }),
      begin: fc.nat({ max: 50 }),
      length: fc.integer({ min: 1, max: 20 }),
    }),
    { maxLength: 20 },
  );

  it("finds what a look at each mapping finds", () => {
    fc.assert(
      fc.property(lives, fc.nat({ max: 31 }), fc.nat({ max: 60 }), (all, page, time) => {
        const at = time + 0.5;
        const operations: DmaOperation[] = all.flatMap(
          ({ page: first, pages, begin, length }, id) => [
            map(id, begin, first * 4096, pages * 4096),
            unmap(id, begin + length),
          ],
        );
        operations.sort((a, b) => a.timeNs - b.timeNs || (a.kind === "unmap" ? -1 : 1));
        const history = historyOf(fault(page * 4096, at), operations);
        const firstTime = Math.min(...all.map(({ begin }) => begin));
        const known = at >= firstTime;
        const covers = all.filter((one) => page >= one.page && page < one.page + one.pages);
        const before = covers.filter(({ begin }) => !known || begin < at);
        expect(history.covering).toHaveLength(Math.min(4, before.length));
        expect(history.later !== undefined).toBe(covers.length > before.length);
        expect(history.maps).toBe(all.length);
        const ends = history.covering.map(({ unmapped }) => unmapped);
        // Whatever ended has its end, also after the fault.
        expect(ends.includes(undefined)).toBe(false);
      }),
      { numRuns: 200 },
    );
  });
});
