/**
 * What the headers of a trace.dat say, whichever version it has: formats, tasks, options and
 * where the data of the CPUs are. The parts that versions 6 and 7 share are read here:
 * trace-cmd.dat.v6(5) and .v7(5). Holds the source and owns nothing.
 */

import type { BlockReader } from "../blocks.js";
import { ByteCursor } from "../bytes.js";
import { CaptureError } from "../errors.js";
import type { Source } from "../source.js";
import { type FormatTable, type PageFormat, parsePageFormat } from "./formats.js";
import type { CpuRange, Options } from "./options.js";

export interface Layout {
  readonly version: 6 | 7;
  readonly littleEndian: boolean;
  readonly compression: string;
  readonly pageFormat: PageFormat;
  readonly pageBytes: number;
  readonly formats: FormatTable;
  readonly tasks: ReadonlyMap<number, string>;
  readonly options: Options;
  readonly clock: string;
  readonly cpus: readonly CpuRange[];
  /** The data of a CPU, from the start. */
  readonly openCpu: (range: CpuRange) => BlockReader;
  /** In place of the data of CPUs: the text of `latency` files. */
  readonly openText: (() => BlockReader) | undefined;
}

/** The first bytes of every trace.dat. */
export const MAGIC: Buffer = Buffer.from("\x17\x08\x44tracing", "latin1");

export interface InitialFormat {
  readonly version: 6 | 7;
  readonly littleEndian: boolean;
  readonly pageBytes: number;
}

/** "Initial format"; leaves a cursor in the byte order of the file behind it. */
export function readInitialFormat(source: Source): { initial: InitialFormat; cursor: ByteCursor } {
  const start = new ByteCursor(source, MAGIC.length, true);
  const versionText = start.text(16, "the version");
  const version = Number(versionText);
  if (version !== 6 && version !== 7) {
    const what = `this is version ${JSON.stringify(versionText)} of trace.dat, not 6 or 7`;
    throw new CaptureError("UNSUPPORTED", source.file, what);
  }
  const [endian, longBytes] = start.bytes(2, "the byte order");
  if (endian > 1 || (longBytes !== 4 && longBytes !== 8)) {
    throw start.error("CORRUPT", "the byte order or the size of a long is impossible");
  }
  const littleEndian = endian === 0;
  const cursor = new ByteCursor(source, start.position, littleEndian);
  const pageBytes = cursor.u32("the page size");
  return { initial: { version, littleEndian, pageBytes }, cursor };
}

/** Format files of the kernel are a few KiB long; the largest of Linux 6.12 has 40 KiB. */
const FORMAT_BYTES_MAX = 2 ** 20;
/** 16-bit event ids. */
const EVENTS_MAX = 65_536;
const NAME_BYTES_MAX = 4096;

/** "Header info": returns the text of events/header_page. */
export function readHeaderInfo(cursor: ByteCursor): PageFormat {
  expectLabel(cursor, "header_page\0");
  const pageText = readSized(cursor, 8, FORMAT_BYTES_MAX, "the format of pages");
  expectLabel(cursor, "header_event\0");
  cursor.skip(cursor.u64("the format of records"), "the format of records");
  return parsePageFormat(cursor.store.file, pageText);
}

function expectLabel(cursor: ByteCursor, label: string): void {
  const at = cursor.position;
  if (cursor.bytes(label.length, "the headers").toString("latin1") === label) return;
  cursor.position = at;
  throw cursor.error("CORRUPT", `${JSON.stringify(label.replace(/\0$/, ""))} should stand here`);
}

export function readFtraceFormats(cursor: ByteCursor, formats: FormatTable): void {
  readFormats(cursor, "ftrace", formats);
}

export function readEventFormats(cursor: ByteCursor, formats: FormatTable): void {
  const systems = cursor.count(EVENTS_MAX, "the number of event systems");
  for (let index = 0; index < systems; index += 1) {
    readFormats(cursor, cursor.text(NAME_BYTES_MAX, "the name of an event system"), formats);
  }
}

function readFormats(cursor: ByteCursor, system: string, formats: FormatTable): void {
  const count = cursor.count(EVENTS_MAX, "the number of event formats");
  for (let index = 0; index < count; index += 1) {
    formats.add(system, readSized(cursor, 8, FORMAT_BYTES_MAX, "an event format"));
  }
}

/**
 * The kernel keeps the names of at most 2^15 tasks (PID_MAX_DEFAULT in
 * tracing_saved_cmdlines_size_write()), in lines of at most 28 bytes; room for some more.
 */
const TASKS_BYTES_MAX = 28 * 2 ** 17;

export function readTasks(cursor: ByteCursor): ReadonlyMap<number, string> {
  const tasks = new Map<number, string>();
  for (const line of readSized(cursor, 8, TASKS_BYTES_MAX, "the names of tasks").split("\n")) {
    const space = line.indexOf(" ");
    if (space > 0) tasks.set(Number(line.slice(0, space)), line.slice(space + 1));
  }
  // The kernel and trace-cmd print the idle tasks, all with pid 0, by this name.
  tasks.set(0, "<idle>");
  return tasks;
}

export function readSized(
  cursor: ByteCursor,
  width: 4 | 8,
  limitBytes: number,
  what: string,
): string {
  const sizeBytes = cursor.size(width, limitBytes, what);
  return cursor.bytes(sizeBytes, what).toString("utf8");
}

/**
 * The kernel's sub-buffers are at most 128 system pages (buffer_subbuf_size_write in
 * kernel/trace/trace.c) of at most 64 KiB.
 */
const PAGE_BYTES_MAX = 128 * 64 * 1024;

export function checkPageBytes(source: Source, pageBytes: number, format: PageFormat): void {
  if (pageBytes > format.dataOffset + 4 && pageBytes <= PAGE_BYTES_MAX && pageBytes % 4 === 0) {
    return;
  }
  const what = `pages of ${pageBytes} bytes cannot be`;
  throw new CaptureError("CORRUPT", source.file, what);
}

/** Every CPU's data must lie within the file: checked before any is read. */
export function checkRanges(source: Source, cpus: readonly CpuRange[]): void {
  for (const { cpu, offset, sizeBytes } of cpus) {
    if (sizeBytes === 0 || offset + sizeBytes <= source.sizeBytes) continue;
    const what =
      `the data of CPU ${cpu} end at byte 0x${(offset + sizeBytes).toString(16)}, ` +
      `the file at 0x${source.sizeBytes.toString(16)}`;
    throw new CaptureError("TRUNCATED", source.file, what, { unit: "byte", at: offset });
  }
}

/** Text is read this much at a time. */
export const TEXT_BYTES = 64 * 1024;

/** Fewer, larger reads where that is cheap, and a bounded total however many CPUs there are. */
const CPU_READ_BYTES_MAX = 64 * 1024;
const ALL_READ_BYTES = 4 * 2 ** 20;

/** How much of a CPU's data to hold: whole pages. */
export function blockBytes(pageBytes: number, cpus: number): number {
  const share = Math.min(CPU_READ_BYTES_MAX, ALL_READ_BYTES / Math.max(1, cpus));
  return pageBytes * Math.max(1, Math.floor(share / pageBytes));
}
