/**
 * The options of a trace.dat: trace-cmd.dat.v7(5), "Options section", and the same ids in
 * version 6. What says nothing about events or time (hooks, process maps, guests, sessions) is
 * skipped. Owns nothing.
 */

import { ByteCursor, memoryStore } from "../bytes.js";
import { CPUS_MAX } from "../tally.js";

const OPTION_DONE = 0;
const OPTION_DATE = 1;
const OPTION_CPUSTAT = 2;
const OPTION_BUFFER = 3;
const OPTION_TRACECLOCK = 4;
const OPTION_UNAME = 5;
const OPTION_OFFSET = 7;
const OPTION_CPUCOUNT = 8;
const OPTION_TSC2NSEC = 14;
const OPTION_HEADER_INFO = 16;
const OPTION_CMDLINES = 21;
const OPTION_BUFFER_TEXT = 22;

/** Process maps can be long; no other option is. */
const OPTION_BYTES_MAX = 64 * 2 ** 20;
/** One for each CPU of each buffer and a dozen more: 8 buffers of the 8192 CPUs of NR_CPUS. */
const OPTIONS_MAX = 65_536;
/** Instances are directories (NAME_MAX), and clocks have short names. */
const NAME_BYTES_MAX = 256;

/** The top instance's buffer, the only one that is read. Version 7 only. */
export interface BufferOption {
  readonly sectionOffset: number;
  readonly clock: string;
  readonly isText: boolean;
  readonly pageBytes: number;
  readonly cpus: readonly CpuRange[];
}

/** Where the data of a CPU lie in the file. */
export interface CpuRange {
  readonly cpu: number;
  readonly offset: number;
  readonly sizeBytes: number;
}

export interface CpuStatistics {
  readonly cpu: number;
  /** Overrun, commit overrun and dropped events together. */
  readonly lost: number;
}

export interface Options {
  clock: string | undefined;
  /** Whether there was a clock option, which in version 6 announces a clock after the CPUs. */
  hasClock: boolean;
  uname: string;
  cpuCount: number | undefined;
  /** Added to every timestamp (options DATE and OFFSET). */
  timeOffsetNs: number;
  tsc: { readonly multiplier: number; readonly shift: number } | undefined;
  readonly cpuStatistics: CpuStatistics[];
  topBuffer: BufferOption | undefined;
  /** Names of the instances whose buffers are not read. */
  readonly otherInstances: string[];
  /** Options read so far, of any kind. */
  count: number;
  /** Version 7: places of the sections HEADER_INFO (16) to CMDLINES (21), by id. */
  readonly sections: Map<number, number>;
}

export function emptyOptions(): Options {
  return {
    clock: undefined,
    hasClock: false,
    uname: "",
    cpuCount: undefined,
    timeOffsetNs: 0,
    tsc: undefined,
    cpuStatistics: [],
    topBuffer: undefined,
    otherInstances: [],
    count: 0,
    sections: new Map(),
  };
}

/**
 * Read options up to and with DONE. Returns the content of DONE: in version 7 the place of the
 * next options section or 0; in version 6 DONE is two bytes and has no content.
 */
export function readOptions(cursor: ByteCursor, version: 6 | 7, options: Options): number {
  for (;;) {
    const id = cursor.u16("an option");
    if (id === OPTION_DONE && version === 6) return 0;
    const sizeBytes = cursor.size(4, OPTION_BYTES_MAX, "an option");
    if (id === OPTION_DONE) return cursor.u64("the end of the options");
    options.count += 1;
    if (options.count > OPTIONS_MAX) {
      throw cursor.error("CORRUPT", `there are more than ${OPTIONS_MAX} options`);
    }
    const at = cursor.store.offsetInFile(cursor.position);
    // The bytes are valid until the next read only, and reading one option may take several.
    const content = Buffer.from(cursor.bytes(sizeBytes, "an option"));
    const store = memoryStore(cursor.store.file, content, at);
    readOption(new ByteCursor(store, 0, cursor.littleEndian), id, content, version, options);
  }
}

function readOption(
  cursor: ByteCursor,
  id: number,
  content: Buffer,
  version: 6 | 7,
  options: Options,
): void {
  const text = (): string => content.toString("utf8").split("\0", 1)[0];
  if (id >= OPTION_HEADER_INFO && id <= OPTION_CMDLINES) {
    options.sections.set(id, cursor.u64("the place of a section"));
    return;
  }
  switch (id) {
    case OPTION_DATE:
      // Written in microseconds (trace-cmd, lib/trace-cmd/trace-input.c, handle_options).
      options.timeOffsetNs += parseInteger(text()) * 1000;
      return;
    case OPTION_OFFSET:
      options.timeOffsetNs += parseInteger(text());
      return;
    case OPTION_CPUSTAT:
      addCpuStatistics(text(), options.cpuStatistics);
      return;
    case OPTION_BUFFER:
    case OPTION_BUFFER_TEXT:
      readBuffer(cursor, id === OPTION_BUFFER_TEXT, version, options);
      return;
    case OPTION_TRACECLOCK:
      options.hasClock = true;
      options.clock ??= selectedClock(text());
      return;
    case OPTION_UNAME:
      options.uname = text().trim();
      return;
    case OPTION_CPUCOUNT:
      options.cpuCount = cursor.count(CPUS_MAX, "the number of CPUs");
      return;
    case OPTION_TSC2NSEC: {
      const multiplier = cursor.u32("the TSC multiplier");
      const shift = cursor.u32("the TSC shift");
      // The offset that follows is not applied, as trace-cmd (timestamp_calc) does not.
      if (multiplier !== 0) options.tsc = { multiplier, shift };
      return;
    }
  }
}

/** The one in brackets: the content of the kernel's file `trace_clock`. */
export function selectedClock(text: string): string | undefined {
  return /\[([^\]\s]+)\]/.exec(text)?.[1];
}

/** As C's strtoll with base 0 reads it: decimal or hexadecimal, signed; 0 if it is no number. */
function parseInteger(text: string): number {
  const [, sign, digits] = /^\s*([+-]?)(0x[0-9a-f]+|\d+)/i.exec(text) ?? [];
  return digits === undefined ? 0 : Number(digits) * (sign === "-" ? -1 : 1);
}

/** The text of per_cpu/cpuN/stats, after a line `CPU: N`. */
function addCpuStatistics(text: string, into: CpuStatistics[]): void {
  const cpu = /^CPU: (\d+)$/m.exec(text)?.[1];
  if (cpu === undefined) return;
  let lost = 0;
  for (const [, count] of text.matchAll(/^(?:overrun|commit overrun|dropped events): (\d+)$/gm)) {
    lost += Number(count);
  }
  into.push({ cpu: Number(cpu), lost });
}

function readBuffer(cursor: ByteCursor, isText: boolean, version: 6 | 7, options: Options): void {
  const sectionOffset = cursor.u64("the place of a buffer");
  const name = cursor.text(NAME_BYTES_MAX, "the name of a buffer");
  if (name !== "") options.otherInstances.push(name);
  // Version 6 has options for instances only.
  if (name !== "" || version === 6 || options.topBuffer !== undefined) return;
  const clock = cursor.text(NAME_BYTES_MAX, "the clock of a buffer");
  const pageBytes = isText ? 0 : cursor.u32("the page size of a buffer");
  const count = isText ? 0 : cursor.count(CPUS_MAX, "the number of CPUs of a buffer");
  const cpus: CpuRange[] = [];
  for (let index = 0; index < count; index += 1) {
    const cpu = cursor.count(CPUS_MAX - 1, "a CPU's number");
    const offset = cursor.u64("the place of a CPU's data");
    const sizeBytes = cursor.u64("the size of a CPU's data");
    cpus.push({ cpu, offset, sizeBytes });
  }
  options.topBuffer = { sectionOffset, clock, isText, pageBytes, cpus };
}
