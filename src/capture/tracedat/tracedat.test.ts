/** What the trace.dat reader makes of files that are written for the purpose. */

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  buildTraceDat,
  fits,
  type Item,
  type Option,
  type Page,
  type Shape,
} from "../testing/build.js";
import { type ReadCapture, readWhole } from "../testing/fixtures.js";

let directory = "";
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), "tracedat-test-"));
});
afterAll(() => {
  rmSync(directory, { recursive: true });
});

async function read(bytes: Buffer): Promise<ReadCapture> {
  const path = join(directory, "trace.dat");
  writeFileSync(path, bytes);
  return readWhole(path);
}

const SHAPE: Shape = {
  version: 7,
  littleEndian: true,
  longBytes: 8,
  pageBytes: 4096,
  compression: "none",
};

const shapes: fc.Arbitrary<Shape> = fc.record({
  version: fc.constantFrom(6, 7),
  littleEndian: fc.boolean(),
  longBytes: fc.constantFrom(4, 8),
  pageBytes: fc.constantFrom(512, 4096, 65_536),
  compression: fc.constantFrom("none", "zlib"),
});

const delta = fc.integer({ min: 1, max: 2 ** 27 - 1 });
const items: fc.Arbitrary<Item> = fc.oneof(
  fc.record({
    item: fc.constant("map" as const),
    delta,
    iova: fc.integer({ min: 0, max: 2 ** 52 }),
    size: fc.integer({ min: 0, max: 2 ** 32 - 1 }),
  }),
  fc.record({
    item: fc.constant("bounced" as const),
    delta,
    device: fc.stringMatching(/^[0-9a-f:.]{1,20}$/),
  }),
  // Up to 28 words are encoded in the head of a record, more in a word of their own.
  fc.record({
    item: fc.constant("other" as const),
    delta,
    payloadWords: fc.integer({ min: 1, max: 60 }),
  }),
  fc.record({
    item: fc.constant("mark" as const),
    delta,
    text: fc.stringMatching(/^[ -~]{0,40}$/),
  }),
  fc.record({
    item: fc.constant("discarded" as const),
    delta,
    payloadWords: fc.integer({ min: 0, max: 40 }),
  }),
  fc.record({ item: fc.constant("extend" as const), delta: fc.integer({ min: 0, max: 2 ** 40 }) }),
);

const pages: fc.Arbitrary<Page[]> = fc.array(
  fc.record(
    {
      timeNs: fc.integer({ min: 0, max: 2 ** 50 }),
      items: fc.array(items, { maxLength: 20 }),
      lost: fc.oneof(fc.integer({ min: 1, max: 1000 }), fc.constant("unknown" as const)),
    },
    { requiredKeys: ["timeNs", "items"] },
  ),
  { maxLength: 5 },
);

interface Expected {
  readonly timeNs: number;
  readonly cpu: number;
  readonly item: Item;
}

/** Times by the definition: of the page, and a delta for each record. */
function expectedOf(shape: Shape, cpu: number, all: readonly Page[]): Expected[] {
  const expected: Expected[] = [];
  for (const page of all) {
    let timeNs = page.timeNs;
    for (const item of fits(shape, page.items)) {
      timeNs = item.item === "stamp" ? item.time : timeNs + item.delta;
      expected.push({ timeNs, cpu, item });
    }
  }
  return expected;
}

function describeItem({ timeNs, cpu, item }: Expected): object | undefined {
  const at = { timeNs, cpu, pid: 77, task: "a task" };
  switch (item.item) {
    case "map":
      return { kind: "iommu_map", ...at, iova: item.iova, paddr: 0x1000, sizeBytes: item.size };
    case "bounced":
      return {
        kind: "swiotlb_bounced",
        ...at,
        device: item.device,
        dmaMask: 0xffff_ffff,
        address: 0x2200,
        sizeBytes: 64,
        forced: true,
      };
    case "mark":
      return { kind: "mark", ...at, text: item.text };
    default:
      return undefined;
  }
}

describe("any file is read as it was written", () => {
  test("records of one CPU, in every version, byte order, word and page size", async () => {
    await fc.assert(
      fc.asyncProperty(shapes, pages, async (shape, written) => {
        const { events, statistics } = await read(buildTraceDat(shape, [written]));
        const expected = expectedOf(shape, 0, written);
        expect(events).toEqual(expected.map(describeItem).filter((one) => one !== undefined));
        const records = expected.filter(
          ({ item }) => item.item !== "discarded" && item.item !== "extend",
        );
        expect(statistics.events).toBe(records.length);
        const lost = written.map((page) => page.lost ?? 0);
        expect(statistics.uncountedLosses).toBe(lost.filter((one) => one === "unknown").length);
        const counted = lost.filter((one) => one !== "unknown").reduce((sum, one) => sum + one, 0);
        expect(statistics.lost).toBe(counted);
      }),
      { numRuns: 150 },
    );
  });

  test("records of several CPUs come in the order of time, of equal times in that of CPUs", async () => {
    const ordered = fc.array(fc.array(fc.integer({ min: 1, max: 5 }), { maxLength: 30 }), {
      minLength: 1,
      maxLength: 9,
    });
    await fc.assert(
      fc.asyncProperty(ordered, async (cpus) => {
        const written = cpus.map((deltas): Page[] => {
          const maps = deltas.map((one): Item => ({ item: "map", delta: one, iova: 0, size: 1 }));
          return [{ timeNs: 1000, items: maps }];
        });
        const { events } = await read(buildTraceDat(SHAPE, written));
        const expected = written
          .flatMap((all, cpu) => expectedOf(SHAPE, cpu, all))
          .sort((one, other) => one.timeNs - other.timeNs || one.cpu - other.cpu);
        expect(events.map(({ timeNs, cpu }) => [timeNs, cpu])).toEqual(
          expected.map(({ timeNs, cpu }) => [timeNs, cpu]),
        );
      }),
      { numRuns: 60 },
    );
  });
});

const MAP: Item = { item: "map", delta: 10, iova: 0x1000, size: 4096 };

function option(id: number, text: string): Option {
  return { id, content: Buffer.from(`${text}\0`) };
}

describe("time", () => {
  test("an absolute time stamp has 59 bits; those above come from the page", async () => {
    const top = 2 ** 59 * 3;
    const stamp: Item = { item: "stamp", time: 2 ** 40 };
    const { events } = await read(
      buildTraceDat(SHAPE, [[{ timeNs: top + 4096, items: [stamp, MAP] }]]),
    );
    expect(events[0].timeNs).toBe(top + 2 ** 40 + 10);
  });

  test("TSC cycles become nanoseconds, and the options OFFSET and DATE are added", async () => {
    const tsc = Buffer.alloc(16);
    // 2.5 GHz: 0.4 ns for a cycle, as a multiplier with 32 bits of fraction; rounded up, since
    // the product is rounded down.
    tsc.writeUInt32LE(Math.ceil(0.4 * 2 ** 32), 0);
    tsc.writeUInt32LE(32, 4);
    const options = [
      { id: 14, content: tsc },
      option(7, "1000"),
      option(1, "0x10"),
      option(4, "local [x86-tsc]"),
    ];
    const file = buildTraceDat(SHAPE, [[{ timeNs: 999_990, items: [MAP] }]], options);
    const { events, header } = await read(file);
    expect(header.clock).toBe("x86-tsc");
    expect(header.timeUnit).toBe("ns");
    // 1 000 000 cycles, 1000 ns, and 16 microseconds.
    expect(events[0].timeNs).toBe(400_000 + 1000 + 16_000);
  });

  test("cycles that nobody can convert are said to be cycles", async () => {
    const file = buildTraceDat(SHAPE, [], [option(4, "local [x86-tsc]")]);
    expect((await read(file)).header.timeUnit).toBe("cycles");
  });

  test("version 6 has its clock behind the table of CPUs", async () => {
    const file = buildTraceDat({ ...SHAPE, version: 6 }, [[]], [option(4, "")]);
    expect((await read(file)).header.clock).toBe("mono");
  });
});

describe("options", () => {
  const stats = (cpu: number, overrun: number): Option =>
    option(
      2,
      `CPU: ${cpu}\nentries: 5\noverrun: ${overrun}\ncommit overrun: 2\ndropped events: 1\n`,
    );

  test("the recorder's totals count losses, which include those that pages tell of", async () => {
    const page: Page = { timeNs: 1, items: [MAP], lost: 40 };
    const { statistics } = await read(
      buildTraceDat(SHAPE, [[page], []], [stats(0, 50), stats(1, 0)]),
    );
    expect(statistics.lostByCpu).toEqual([53, 3]);
    expect(statistics.lost).toBe(56);
  });

  test("other instances are told of and not read", async () => {
    const content = Buffer.concat([
      Buffer.alloc(8, 1),
      Buffer.from("second\0local\0"),
      Buffer.alloc(8),
    ]);
    const { header } = await read(buildTraceDat(SHAPE, [[]], [{ id: 3, content }]));
    expect(header.otherInstances).toEqual(["second"]);
  });

  // Compressed, a file of some hundred KB can announce more than any memory holds.
  test("as many as no recording has are refused, before they fill the memory", async () => {
    const many = Array.from({ length: 66_000 }, () => option(2, "CPU: 0\n"));
    await expect(read(buildTraceDat(SHAPE, [[]], many))).rejects.toThrow(
      /there are more than 65536 options; copy or record/,
    );
    const name = Buffer.concat([Buffer.alloc(8), Buffer.alloc(1000, "x"), Buffer.alloc(100)]);
    await expect(read(buildTraceDat(SHAPE, [[]], [{ id: 3, content: name }]))).rejects.toThrow(
      /the name of a buffer has no end within 256 bytes/,
    );
    const cpus = Buffer.from([0xff, 0xff, 0xff, 0xff]);
    await expect(
      read(buildTraceDat({ ...SHAPE, version: 6 }, [[]], [{ id: 8, content: cpus }])),
    ).rejects.toThrow(/the number of CPUs is 4294967295, more than can be/);
  });

  test.each([6, 7] as const)(
    "the text of a latency file of version %i is read",
    async (version) => {
      const text =
        "# tracer: nop\n fio-9 [001] d.h1. 1.000002: unmap: IOMMU: iova=0x1000 - 0x2000 size=4096 unmapped_size=4096\n";
      for (const compression of ["none", "zlib"] as const) {
        const file = buildTraceDat({ ...SHAPE, version, compression }, [], [], text);
        expect((await read(file)).events).toEqual([
          {
            kind: "iommu_unmap",
            timeNs: 1_000_002_000,
            cpu: 1,
            pid: 9,
            task: "fio",
            iova: 0x1000,
            sizeBytes: 4096,
            unmappedBytes: 4096,
          },
        ]);
      }
    },
  );
});
