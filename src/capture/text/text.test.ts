/** Lines of text: the layouts that no recording has, and events in each of their renderings. */

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { CATALOG } from "../catalog.js";
import type { CaptureEvent } from "../events.js";
import { type ReadCapture, readWhole } from "../testing/fixtures.js";
import { parseBody } from "./body.js";
import { type Dialect, newHead, parseHead } from "./head.js";

let directory = "";
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), "text-test-"));
});
afterAll(() => {
  rmSync(directory, { recursive: true });
});

async function read(text: string): Promise<ReadCapture> {
  const path = join(directory, "trace.txt");
  writeFileSync(path, text);
  return readWhole(path);
}

describe("the head of a line", () => {
  test.each<[Dialect, string, object]>([
    [
      "ftrace text",
      "          <idle>-0       [001] d.H1.     6.260159: nvme_sq: x",
      { task: "<idle>", pid: 0, cpu: 1, timeNs: 6_260_159_000, name: "nvme_sq", body: " x" },
    ],
    [
      "ftrace text",
      "     my-task-1 2-4711    ( 4711) [127] d..1.  12.000001: unmap: y",
      { task: "my-task-1 2", pid: 4711, cpu: 127, timeNs: 12_000_001_000, name: "unmap" },
    ],
    ["ftrace text", " a-1 ( ------) [000]  5.000000: map: z", { pid: 1, name: "map", body: " z" }],
    [
      "ftrace text",
      "  a [1]: b-9 [003] ..... 1.5: e: [1] 2: f: g",
      { task: "a [1]: b", cpu: 3, name: "e" },
    ],
    // x86-tsc, boot in trace-cmd: a bare number.
    [
      "trace-cmd report",
      " fio-299   [001]-0x0  5744275243: dma_map_page:   d",
      { timeNs: 5_744_275_243 },
    ],
    [
      "trace-cmd report",
      "  <...>-77  [000]  1.123456789: map:   d",
      { task: "", timeNs: 1_123_456_789 },
    ],
    ["ftrace text", " a-1 [000] d..2. 1.000000: do_idle <-cpu_startup_entry", { name: "function" }],
    [
      "perf script",
      "     iou-wrk-293     295 [000]     4.516802319:    dma:dma_map_sg: d",
      { task: "iou-wrk-293", pid: 295, timeNs: 4_516_802_319, system: "dma", name: "dma_map_sg" },
    ],
    [
      "perf script",
      "fio  293/295  4.500000:  1 iommu:map: d",
      { pid: 295, cpu: 0, name: "map", body: "d" },
    ],
  ])("%s: %s", (dialect, line, wanted) => {
    const head = newHead();
    expect(parseHead(line, dialect, head)).toBe(true);
    expect(head).toMatchObject(wanted);
  });

  test("names of tasks may hold anything", () => {
    fc.assert(
      fc.property(fc.string({ maxLength: 15 }), fc.nat(4_194_304), (name, pid) => {
        const task = name.replace(/[\n\r]/g, "").trimStart();
        const head = newHead();
        const line = `${task.padStart(16)}-${pid}     [002] d.h1.    17.000250: map: IOMMU: iova=`;
        expect(parseHead(line, "ftrace text", head)).toBe(true);
        expect(head).toMatchObject({ task, pid, cpu: 2, timeNs: 17_000_250_000, name: "map" });
      }),
    );
  });
});

const AT = { timeNs: 1, cpu: 0, pid: 2, task: "t" };

function body(name: string, text: string): CaptureEvent {
  const entry = CATALOG.get(name);
  if (entry === undefined) throw new Error(`${name} is not in the catalog`);
  return parseBody(entry.event, text, AT);
}

describe("an event rendered by the kernel and its raw fields are the same", () => {
  const paddrs = "phys_addrs=ARRAY[00, 10, 00, 00, 00, 00, 00, 00, 00, 30, 00, 00, 01, 00, 00, 00]";
  const dmaAddrs = "dma_addrs=ARRAY[00, 00, d6, ff, 00, 00, 00, 00]";
  test.each([
    [
      "map",
      " IOMMU: iova=0x000000000000f000 - 0x0000000000010000 paddr=0x0000000000003000 size=4096",
      " iova=0xf000 paddr=0x3000 size=4096",
    ],
    [
      "unmap",
      " IOMMU: iova=0x1000 - 0x3000 size=8192 unmapped_size=4096",
      "iova=0x1000 size=8192 unmapped_size=4096",
    ],
    [
      "dma_map_page",
      " d:1 dir=FROM_DEVICE dma_addr=fff10 size=16 phys_addr=10 attrs=SKIP_CPU_SYNC|NO_WARN",
      " device=d:1 phys_addr=10 dma_addr=fff10 size=16 dir=2 attrs=0x120",
    ],
    [
      "dma_map_phys",
      " d dir=NONE dma_addr=10 size=16 phys_addr=20 attrs=MMIO|0x8000",
      " device=d phys_addr=20 dma_addr=10 size=16 dir=3 attrs=0x8400",
    ],
    [
      "dma_unmap_resource",
      " d dir=BIDIRECTIONAL dma_addr=99 size=1 attrs=",
      " device=d addr=99 size=1 dir=0 attrs=0x0",
    ],
    [
      "dma_map_sg",
      " d dir=TO_DEVICE nents=2/2 ents=1/1 dma_addrs={0xffd60000} sizes={0x20000} phys_addrs={0x1000,0x100003000} attrs=NO_WARN",
      ` [FAILED TO PARSE] device=d full_nents=2 full_ents=1 truncated=0 ${paddrs} ${dmaAddrs} lengths=ARRAY[00, 00, 02, 00] dir=1 attrs=0x100`,
    ],
    [
      "dma_map_sg",
      " d dir=TO_DEVICE nents=1/300 ents=1/1 [TRUNCATED] dma_addrs={0x10} sizes={0x20} phys_addrs={0x1000} attrs=",
      " device=d full_nents=300 full_ents=1 truncated=1 phys_addrs={0x1000} dma_addrs={0x10} lengths={0x20} dir=1 attrs=0x0",
    ],
    [
      "dma_map_sg_err",
      " d dir=TO_DEVICE dma_addrs={0x1000,0x100003000} err=-12 attrs=",
      ` device=d ${paddrs} err=-12 dir=1 attrs=0x0`,
    ],
    [
      "dma_unmap_sg",
      " d dir=TO_DEVICE phys_addrs={0x1000,0x100003000} attrs=",
      ` device=d ${paddrs.replace("phys_", "")} dir=1 attrs=0x0`,
    ],
    [
      "dma_alloc",
      " d dir=BIDIRECTIONAL dma_addr=fffbf000 size=4096 virt_addr=(____ptrval____) flags=GFP_ATOMIC|__GFP_ZERO attrs=",
      " device=d virt_addr=0xffff8d789c280000 dma_addr=fffbf000 size=4096 flags=2080 dir=0 attrs=0x0",
    ],
    [
      "dma_alloc",
      " d dir=BIDIRECTIONAL dma_addr=0 size=4096 virt_addr=0000000000000000 flags=GFP_ATOMIC attrs=",
      " device=d virt_addr=(nil) dma_addr=0 size=4096 flags=2080 dir=0 attrs=0x0",
    ],
    [
      "dma_alloc_sgt",
      " d dir=TO_DEVICE dma_addr=5000 size=8192 phys_addrs={0x1000,0x100003000} flags=GFP_KERNEL attrs=",
      ` device=d ${paddrs} dma_addr=5000 size=8192 dir=1 flags=3264 attrs=0x0`,
    ],
    [
      "dma_free",
      " d dir=BIDIRECTIONAL dma_addr=5000 size=64 virt_addr=0000000012345678 attrs=",
      " device=d virt_addr=0xffff8d789c280000 dma_addr=5000 size=64 dir=0 attrs=0x0",
    ],
    [
      "dma_sync_single_for_cpu",
      " d dir=FROM_DEVICE dma_addr=10 size=16",
      " device=d dma_addr=10 size=16 dir=2",
    ],
    [
      "dma_sync_sg_for_device",
      " d dir=FROM_DEVICE dma_addrs={0xffd60000} sizes={0x20000}",
      ` device=d ${dmaAddrs} lengths=ARRAY[00, 00, 02, 00] dir=2`,
    ],
    [
      "swiotlb_bounced",
      " dev_name: d dma_mask=ffffffff dev_addr=10 size=512 FORCE",
      " dev_name=d dma_mask=ffffffff dev_addr=10 size=512 force=1",
    ],
    [
      "swiotlb_bounced",
      " dev_name: d dma_mask=ffffffff dev_addr=10 size=512 NORMAL",
      " dev_name=d dma_mask=ffffffff dev_addr=10 size=512 swiotlb_force=0",
    ],
  ])("%s: %s", (name, rendered, raw) => {
    expect(body(name, raw)).toEqual(body(name, rendered));
  });

  test("what the fields are", () => {
    expect(body("map", " IOMMU: iova=0xf000 - 0x10000 paddr=0x3000 size=4096")).toEqual({
      kind: "iommu_map",
      ...AT,
      iova: 0xf000,
      paddr: 0x3000,
      sizeBytes: 4096,
    });
    const sg = ` device=d full_nents=2 full_ents=1 truncated=0 ${paddrs} ${dmaAddrs} lengths=ARRAY[00, 00, 02, 00] dir=1 attrs=0x100`;
    expect(body("dma_map_sg", sg)).toEqual({
      kind: "dma_map_sg",
      ...AT,
      device: "d",
      direction: "to_device",
      attrs: 0x100,
      paddrs: [0x1000, 0x1_0000_3000],
      dmaAddresses: [0xffd6_0000],
      lengths: [0x20000],
      fullNents: 2,
      fullEnts: 1,
      truncated: false,
    });
  });

  test("arrays of a big-endian machine", () => {
    const big =
      " device=d phys_addrs=ARRAY[00, 00, 00, 01, 00, 00, 30, 00] dma_addrs=ARRAY[00, 00, 00, 00, ff, d6, 00, 01] lengths=ARRAY[00, 02, 00, 00] dir=1 attrs=0x0";
    expect(body("dma_map_sg", big)).toMatchObject({
      paddrs: [0x1_0000_3000],
      dmaAddresses: [0xffd6_0001],
      lengths: [0x20000],
    });
  });

  test("a failed map or allocation is an error, not a mapping", () => {
    const failed = body(
      "dma_map_page",
      " d dir=TO_DEVICE dma_addr=ffffffffffffffff size=16 phys_addr=10 attrs=",
    );
    expect(failed).toMatchObject({ kind: "dma_error", operation: "map", sizeBytes: 16 });
    const none = " d dir=TO_DEVICE dma_addr=0 size=64 virt_addr=(null) flags=GFP_KERNEL attrs=";
    expect(body("dma_alloc_pages", none)).toMatchObject({ operation: "alloc_pages" });
  });
});

describe("lines that are no events", () => {
  test("losses are counted, by CPU where it is told", async () => {
    const { statistics, header } = await read(
      [
        "# tracer: nop",
        "# entries-in-buffer/entries-written: 2/9   #P:4",
        "##### CPU 1 buffer started ####",
        " a-1 [000] ..... 1.000002: x: y",
        "CPU:1 [LOST 25 EVENTS]",
        "CPU:2 [LOST EVENTS]",
        "CPU:3 [5 EVENTS DROPPED]",
        " a-1 [000] ..... 1.000001: x: y",
        "what is this",
      ]
        .join("\n")
        .concat("\n"),
    );
    expect(header).toMatchObject({ format: "ftrace text", cpus: 4 });
    // 7 were overwritten, of which no CPU is named.
    expect(statistics.lost).toBe(7 + 25 + 5);
    expect([...statistics.lostByCpu]).toEqual([0, 25, 0, 5]);
    expect(statistics.uncountedLosses).toBe(1);
    expect(statistics.backwards).toBe(1);
    expect(statistics.unrecognisedLines).toBe(1);
    expect([statistics.firstNs, statistics.lastNs]).toEqual([1_000_002_000, 1_000_002_000]);
  });

  test("perf: call chains are passed over, losses counted", async () => {
    const { statistics, events } = await read(
      [
        "fio 293 [000]  4.5: iommu:unmap: IOMMU: iova=0x1000 - 0x2000 size=4096 unmapped_size=4096",
        "    ffffffff81234567 iommu_unmap+0x10 ([kernel.kallsyms])",
        "",
        "swapper 0 [001]  4.6: PERF_RECORD_LOST lost 12",
        "fio 293 [000]  4.7: xdp:map: other",
      ]
        .join("\n")
        .concat("\n"),
    );
    expect(events.length).toBe(1);
    expect(statistics).toMatchObject({ lost: 12, unrecognisedLines: 0 });
    // Another system's event of the same name is neither decoded nor counted as ours.
    expect([...statistics.byName]).toEqual([
      ["unmap", 1],
      ["xdp:map", 1],
    ]);
  });

  test("a trace without events is a trace", async () => {
    const { statistics } = await read("# tracer: nop\n#\n");
    expect(statistics.events).toBe(0);
  });
});

describe("marks", () => {
  test.each([
    ["ftrace text", "# tracer: nop", "tracing_mark_write: one: two é"],
    ["trace-cmd report", "cpus=1", "print:        tracing_mark_write: one: two é"],
    ["trace-cmd report", "cpus=1", "print:        ip=tracing_mark_write (0xffff) buf=one: two é"],
  ])("%s, %s: %s", async (format, first, event) => {
    const { events, header, statistics } = await read(
      `${first}\r\n sh-7 [000] ..... 1.0: ${event}\r\n`,
    );
    expect(header.format).toBe(format);
    expect(events).toEqual([
      { kind: "mark", timeNs: 1e9, cpu: 0, pid: 7, task: "sh", text: "one: two é" },
    ]);
    expect([...statistics.byName.keys()]).toEqual(["print"]);
  });
});
