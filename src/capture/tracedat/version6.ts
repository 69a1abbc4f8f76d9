/** The headers of a trace.dat of version 6, in the order of trace-cmd.dat.v6(5). Owns nothing. */

import { RangeBlocks } from "../blocks.js";
import type { ByteCursor } from "../bytes.js";
import type { Source } from "../source.js";
import { CPUS_MAX } from "../tally.js";
import { FormatTable } from "./formats.js";
import * as layout from "./layout.js";
import { type CpuRange, emptyOptions, readOptions, selectedClock } from "./options.js";

const CLOCK_BYTES_MAX = 4096;

export function readVersion6(
  source: Source,
  initial: layout.InitialFormat,
  cursor: ByteCursor,
): layout.Layout {
  const pageFormat = layout.readHeaderInfo(cursor);
  const formats = new FormatTable();
  layout.readFtraceFormats(cursor, formats);
  layout.readEventFormats(cursor, formats);
  cursor.skip(cursor.u32("the kernel's symbols"), "the kernel's symbols");
  cursor.skip(cursor.u32("the printk formats"), "the printk formats");
  const tasks = layout.readTasks(cursor);
  let cpuCount = cursor.count(CPUS_MAX, "the number of CPUs");

  const options = emptyOptions();
  let marker = readMarker(cursor);
  if (marker === "options  ") {
    readOptions(cursor, 6, options);
    cpuCount = options.cpuCount ?? cpuCount;
    marker = readMarker(cursor);
  }
  // The page size in the file is the machine's; sub-buffers may be larger than its pages.
  const pageBytes = Math.max(initial.pageBytes, pageFormat.pageBytes);
  layout.checkPageBytes(source, pageBytes, pageFormat);
  const isText = marker === "latency  ";
  if (!isText && marker !== "flyrecord") {
    throw cursor.error("CORRUPT", "neither options, latency nor flyrecord stands before this");
  }
  const cpus = isText ? [] : readRanges(cursor, cpuCount);
  layout.checkRanges(source, cpus);
  const blockBytes = layout.blockBytes(pageBytes, cpus.length);
  if (!isText && options.hasClock && cursor.position < source.sizeBytes) {
    const text = layout.readSized(cursor, 8, CLOCK_BYTES_MAX, "the trace clock");
    options.clock ??= selectedClock(text);
  }
  const textStart = cursor.position;
  return {
    version: 6,
    littleEndian: initial.littleEndian,
    compression: "none",
    pageFormat,
    pageBytes,
    formats,
    tasks,
    options,
    clock: options.clock ?? "local",
    cpus,
    openCpu: ({ offset, sizeBytes }) => new RangeBlocks(source, offset, sizeBytes, blockBytes),
    openText: isText
      ? () => new RangeBlocks(source, textStart, source.sizeBytes - textStart, layout.TEXT_BYTES)
      : undefined,
  };
}

function readMarker(cursor: ByteCursor): string {
  return cursor.bytes(10, "the marker of the data").toString("latin1", 0, 9);
}

function readRanges(cursor: ByteCursor, count: number): CpuRange[] {
  const cpus: CpuRange[] = [];
  for (let cpu = 0; cpu < count; cpu += 1) {
    const offset = cursor.u64("the place of a CPU's data");
    const sizeBytes = cursor.u64("the size of a CPU's data");
    cpus.push({ cpu, offset, sizeBytes });
  }
  return cpus;
}
