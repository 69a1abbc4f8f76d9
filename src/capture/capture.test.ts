/** Opening: what is no capture, input that is no plain file, and files that were damaged. */

import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { setImmediate } from "node:timers/promises";
import { gzipSync } from "node:zlib";
import fc from "fast-check";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { openCapture } from "./capture.js";
import { CaptureError, type CaptureErrorCode } from "./errors.js";
import { joinOperations } from "./operations.js";
import { buildTraceDat, type Page, type Shape } from "./testing/build.js";
import { fixtureBytes, fixturePath, readWhole } from "./testing/fixtures.js";

let directory = "";
let temporary = "";
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), "capture-test-"));
  temporary = join(directory, "temporary");
});
beforeEach(() => {
  rmSync(temporary, { recursive: true, force: true });
  mkdirSync(temporary);
});
afterAll(() => {
  rmSync(directory, { recursive: true });
});

function written(name: string, content: string | Uint8Array): string {
  const path = join(directory, name);
  writeFileSync(path, content);
  return path;
}

async function failure(path: string): Promise<CaptureError> {
  const error = await readWhole(path, { temporaryDirectory: temporary }).then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(CaptureError);
  return error as CaptureError;
}

const DUMP = "smmu-dump-a.dat";

describe("what is no capture is refused with its code and a remedy, on one line", () => {
  const random = Buffer.from(Array.from({ length: 5000 }, (_, at) => (at * 2_654_435_761) >>> 24));
  test.each<[CaptureErrorCode, string, () => string]>([
    ["EMPTY", "an empty file", () => written("empty", "")],
    ["EMPTY", "nothing, compressed", () => written("empty.gz", gzipSync(""))],
    ["IS_DIRECTORY", "a directory", () => directory],
    ["NOT_FOUND", "a missing file", () => join(directory, "missing")],
    ["NOT_A_CAPTURE", "random bytes", () => written("random", random)],
    [
      "NOT_A_CAPTURE",
      "text that is no trace",
      () => written("poem", "Roses are red,\n\nviolets\n"),
    ],
    ["UNSUPPORTED", "a perf.data file", () => written("perf.data", "PERFILE2\0\0\0\0")],
    [
      "UNSUPPORTED",
      "what is compressed twice",
      () => written("2", gzipSync(gzipSync("# tracer: x"))),
    ],
    [
      "UNSUPPORTED",
      "another version",
      () => written("9", "\x17\x08\x44tracing9\0\0\x08\0\x10\0\0"),
    ],
    ["TRUNCATED", "the beginning of the magic", () => written("m", "\x17\x08\x44tra")],
    [
      "TRUNCATED",
      "half a gzip stream",
      () => written("half.gz", gzipSync(random).subarray(0, -100)),
    ],
    [
      "CORRUPT",
      "a damaged gzip stream",
      () => written("bad.gz", gzipSync(random).fill(7, 20, 400)),
    ],
    [
      "TRUNCATED",
      "half a trace.dat",
      () => written("h", fixtureBytes(DUMP).subarray(0, 1_340_000)),
    ],
  ])("%s: %s", async (code, _what, make) => {
    const error = await failure(make());
    expect(error.code).toBe(code);
    expect(error.message).toContain(error.remedy);
    expect(error.message).not.toContain("\n");
    expect(readdirSync(temporary)).toEqual([]);
  });

  test("a damaged section is named by the byte where it begins", async () => {
    const bytes = fixtureBytes(DUMP);
    // The section header_info begins at 37 and has 24 bytes of headers.
    bytes.fill(0xff, 70, 90);
    const error = await failure(written("section.dat", bytes));
    expect(error.code).toBe("CORRUPT");
    expect(error.offset).toBe(37);
  });

  test("a damaged line of text is named by its number", async () => {
    const path = written(
      "line.txt",
      "# tracer: nop\n#\n a-1 [000] ..... 1.000000: map: IOMMU: iova=0x1 - 0x2 paddr=0x? size=1\n",
    );
    const error = await failure(path);
    expect([error.code, error.offset]).toEqual(["CORRUPT", 3]);
    expect(error.message).toBe(
      `${path}: line 3: event map: paddr is no number; copy or record the capture again`,
    );
  });

  test("a line without end is refused before it fills the memory", async () => {
    const path = written("long.txt", `# tracer: nop\n${"x".repeat(2 ** 22)}`);
    expect((await failure(path)).offset).toBe(2);
  });
});

describe("input without end is refused by its beginning", () => {
  function* endless(chunk: Buffer): Generator<Buffer> {
    for (;;) yield chunk;
  }

  test.each([
    ["a device", "/dev/zero", Buffer.alloc(0)],
    ["standard input", "-", Buffer.from("all work and no play\n")],
  ])("%s", async (_what, path, chunk) => {
    const options = { stdin: Readable.from(endless(chunk)), temporaryDirectory: temporary };
    await expect(openCapture(path, options)).rejects.toMatchObject({ code: "NOT_A_CAPTURE" });
    expect(readdirSync(temporary)).toEqual([]);
  });
});

describe("input that is no plain file gives the same events", () => {
  test("gzip, zstd and standard input leave nothing in the temporary directory", async () => {
    const plain = await readWhole(fixturePath(DUMP));
    const zipped = written("zipped", gzipSync(fixtureBytes(DUMP)));
    const options = { temporaryDirectory: temporary };
    const fromGzip = await openCapture(zipped, options);
    expect(readdirSync(temporary)).toEqual([]);
    expect([...fromGzip.events()]).toEqual(plain.events);
    expect(fromGzip.header.outerCompression).toBe("gzip");
    fromGzip.close();

    // 6 bytes at a time, so that magic numbers and headers come in pieces.
    const small = gzipSync(" a-1 [000] 1.000000: x: y\n");
    const pieces = Array.from({ length: Math.ceil(small.length / 6) }, (_, at) =>
      small.subarray(at * 6, at * 6 + 6),
    );
    const stdin = Readable.from(pieces, { objectMode: false });
    const { statistics, header } = await readWhole("-", { ...options, stdin });
    expect(header.file).toBe("standard input");
    expect([...statistics.byName]).toEqual([["x", 1]]);
    expect(readdirSync(temporary)).toEqual([]);
  });

  test("zstd around the whole", async (context) => {
    const made = spawnSync("zstd", ["-q", "-c", fixturePath(DUMP)], { maxBuffer: 2 ** 28 });
    if (made.error !== undefined) context.skip("there is no zstd on this machine");
    const path = written("whole.zst", made.stdout);
    const { events, header } = await readWhole(path, { temporaryDirectory: temporary });
    expect(header.outerCompression).toBe("zstd");
    expect(events).toEqual((await readWhole(fixturePath(DUMP))).events);
    const half = written("half.zst", made.stdout.subarray(0, made.stdout.length / 2));
    const error = await failure(half);
    expect(error.code).toBe("TRUNCATED");
    expect(error.message).toContain("the zstd stream is cut short");
  });

  test("a signal stops the copying, and the iteration", async () => {
    const abort = new AbortController();
    const endless = Readable.from(
      (async function* () {
        for (;;) yield Buffer.from(await setImmediate("# tracer: nop\n"));
      })(),
      { objectMode: false },
    );
    setTimeout(() => abort.abort(), 20);
    const opening = openCapture("-", {
      stdin: endless,
      signal: abort.signal,
      temporaryDirectory: temporary,
    });
    await expect(opening).rejects.toMatchObject({ code: "ABORTED" });
    expect(readdirSync(temporary)).toEqual([]);

    const later = new AbortController();
    const capture = await openCapture(fixturePath(DUMP), { signal: later.signal });
    expect(() => {
      for (const _event of capture.events()) later.abort();
    }).toThrow(/reading was stopped/);
    capture.close();
  });
});

describe("iterations", () => {
  test("each call of events() begins anew and counts anew", async () => {
    const capture = await openCapture(fixturePath(DUMP));
    for (const _event of capture.events()) break;
    const first = [...capture.events()];
    const counted = { ...capture.statistics };
    expect([...capture.events()]).toEqual(first);
    expect({ ...capture.statistics }).toEqual(counted);
    capture.close();
  });
});

const SHAPE: Shape = {
  version: 7,
  littleEndian: true,
  longBytes: 8,
  pageBytes: 512,
  compression: "zlib",
};

/** Reads all there is, as events and as operations; whatever is wrong must be a CaptureError. */
async function readOrRefuse(path: string): Promise<void> {
  try {
    const capture = await openCapture(path, { temporaryDirectory: temporary });
    try {
      for (const operation of joinOperations(capture.events())) expect(operation.cpu).toBeDefined();
    } finally {
      capture.close();
    }
  } catch (error) {
    if (!(error instanceof CaptureError)) throw error;
    expect(error.message).not.toMatch(/[\n\r]/);
  }
}

interface Damage {
  readonly cut: number | undefined;
  readonly flips: readonly { readonly at: number; readonly mask: number }[];
}

/** Places as fractions, so that one damage fits files of any size. */
const damages: fc.Arbitrary<Damage> = fc.record({
  cut: fc.option(fc.double({ min: 0, max: 1, noNaN: true }), { nil: undefined, freq: 2 }),
  flips: fc.array(
    fc.record({
      at: fc.double({ min: 0, max: 1, noNaN: true }),
      mask: fc.integer({ min: 1, max: 255 }),
    }),
    { maxLength: 4 },
  ),
});

function damaged(bytes: Buffer, { cut, flips }: Damage, from = 0, to = bytes.length): Buffer {
  const copy = Buffer.from(bytes);
  for (const { at, mask } of flips) {
    const place = Math.min(bytes.length - 1, from + Math.floor(at * (to - from)));
    copy[place] ^= mask;
  }
  return cut === undefined ? copy : copy.subarray(0, from + Math.floor(cut * (to - from)));
}

describe("damage of any kind is read over or refused, and nothing else happens", () => {
  test("to small files of every kind", async () => {
    const page: Page = {
      timeNs: 1000,
      items: [
        { item: "map", delta: 1, iova: 0x1000, size: 4096 },
        { item: "bounced", delta: 2, device: "0000:00:01.0" },
        { item: "extend", delta: 2 ** 30 },
        { item: "other", delta: 3, payloadWords: 40 },
        { item: "mark", delta: 4, text: "start" },
      ],
      lost: 3,
    };
    const kinds = fc.record({
      version: fc.constantFrom(6 as const, 7 as const),
      littleEndian: fc.boolean(),
      compression: fc.constantFrom("none" as const, "zlib" as const),
    });
    await fc.assert(
      fc.asyncProperty(kinds, damages, async (kind, damage) => {
        const bytes = buildTraceDat({ ...SHAPE, ...kind }, [[page, page, page], [page]]);
        await readOrRefuse(written("small.dat", damaged(bytes, damage)));
      }),
      { numRuns: 600 },
    );
  });

  test.each([
    // The headers and formats, and the data of the CPUs with the options behind them; between
    // them are the kernel's symbols, which are not read.
    [DUMP, 0, 5200],
    [DUMP, 1_307_000, 1_347_798],
    ["smmu-bounce-lazy.dat", 1_440_000, 1_988_508],
    ["smmu-nvme-strict.dat.gz", 0, 60_000],
  ])("to %s between bytes %i and %i", async (name, from, to) => {
    const bytes = fixtureBytes(name);
    await fc.assert(
      fc.asyncProperty(damages, async (damage) => {
        await readOrRefuse(written("recorded.dat", damaged(bytes, damage, from, to)));
      }),
      { numRuns: 15 },
    );
  });

  test.each([
    "vtd-text-strict.trace.txt.gz",
    "vtd-perf-strict.perf-script.txt.gz",
    "smmu-dump-a.events.txt.gz",
  ])("to the text of %s", async (name) => {
    const bytes = fixtureBytes(name).subarray(0, 60_000);
    await fc.assert(
      fc.asyncProperty(damages, async (damage) => {
        await readOrRefuse(written("text.txt", damaged(bytes, damage)));
      }),
      { numRuns: 60 },
    );
  });

  test("to a gzip stream around a capture", async () => {
    const bytes = gzipSync(fixtureBytes("vtd-perf-strict.perf-script.txt.gz").subarray(0, 60_000));
    await fc.assert(
      fc.asyncProperty(damages, async (damage) => {
        await readOrRefuse(written("text.gz", damaged(bytes, damage)));
      }),
      { numRuns: 60 },
    );
  });
});
