/**
 * What stands before the fields of an event in a line of text: task, pid, CPU, time and the name
 * of the event; and the lines that are no events. The layouts are those of print_trace_fmt and
 * trace_print_context in the kernel (kernel/trace/trace_output.c), of `trace-cmd report`
 * (tracecmd/trace-read.c), which follows it, and of `perf script` (tools/perf/builtin-script.c).
 * Owns nothing.
 */

import type { Place } from "../events.js";
import type { Tally } from "../tally.js";

export type Dialect = "ftrace text" | "trace-cmd report" | "perf script";

/** A line that is an event. `body` is what follows the colon after the name. */
export interface Head extends Place {
  /** "" where the text does not tell. */
  system: string;
  name: string;
  body: string;
}

export function newHead(): Head {
  return { timeNs: 0, cpu: 0, pid: 0, task: "", system: "", name: "", body: "" };
}

/**
 * "  fio-297   [000] d.h1.  6.249555: unmap: IOMMU: .." with, on request of the user, a thread
 * group "(  297)" before the CPU and no flags after it; trace-cmd with -R has "-0x9" for the
 * flags. A task's name may hold anything, so that only what follows it can tell where it ends.
 */
const FTRACE = new RegExp(
  "^ *(.{0,64}?)-(\\d+) +(?:\\( *[\\d-]+\\) +)?\\[(\\d+)\\](?:-0x[0-9a-f]+)?" +
    "(?: +([^ :]{1,8}))? +(\\d+)(?:\\.(\\d+))?: +(\\S.*)$",
);

/** "fio 293 [000] 4.490800482: iommu:map: IOMMU: .."; fields of perf script -F may be missing. */
const PERF = new RegExp(
  "^ *(.{0,64}?) +(\\d+)(?:/(\\d+))? +(?:\\[(\\d+)\\] +)?(\\d+)\\.(\\d+): +" +
    "(?:\\d+ +)?([\\w-]+):([\\w-]+): ?(.*)$",
);

const EVENT_NAME = /^([\w.]+):(.*)$/;

/** Fill `head` from a line of an event; false if the line is none. */
export function parseHead(line: string, dialect: Dialect, head: Head): boolean {
  return dialect === "perf script" ? parsePerf(line, head) : parseFtrace(line, head);
}

function parseFtrace(line: string, head: Head): boolean {
  const match = FTRACE.exec(line);
  if (match === null) return false;
  const rest = match[7];
  const event = EVENT_NAME.exec(rest);
  if (event === null) {
    // The function tracer has no colon: "do_idle <-cpu_startup_entry".
    if (!rest.includes(" <-")) return false;
    head.name = "function";
    head.body = rest;
  } else {
    head.name = event[1];
    head.body = event[2];
  }
  head.system = "";
  head.task = match[1] === "<...>" ? "" : match[1];
  head.pid = Number(match[2]);
  head.cpu = Number(match[3]);
  head.timeNs = timeOf(match[5], match[6]);
  return true;
}

function parsePerf(line: string, head: Head): boolean {
  const match = PERF.exec(line);
  if (match === null) return false;
  head.task = match[1];
  head.pid = Number(match[3] ?? match[2]);
  head.cpu = Number(match[4] ?? 0);
  head.timeNs = timeOf(match[5], match[6]);
  head.system = match[7];
  head.name = match[8];
  head.body = match[9];
  return true;
}

/** Seconds with a fraction; a clock that does not count seconds is printed as a bare number. */
function timeOf(whole: string, fraction: string | undefined): number {
  if (fraction === undefined) return Number(whole);
  return Number(whole) * 1e9 + Number(fraction.padEnd(9, "0").slice(0, 9));
}

/** "CPU:1 [LOST 25 EVENTS]" (kernel), "CPU:1 [25 EVENTS DROPPED]" (trace-cmd); without number. */
const LOST = /^CPU: ?(\d+) \[(?:LOST(?: (\d+))? EVENTS|(?:(\d+) )?EVENTS DROPPED)\]/;
const PERF_LOST = /PERF_RECORD_LOST(?:_SAMPLES)?\b.*\blost (\d+)/;
/** "# entries-in-buffer/entries-written: 57028/57030   #P:2" */
const ENTRIES = /^# entries-in-buffer\/entries-written: (\d+)\/(\d+)\s+#P:(\d+)/;

/**
 * Lines that say something about the trace, or nothing, but are no events: comments, losses,
 * annotations of the kernel, call chains of perf. False if the line is none of them.
 */
export function parseNotice(line: string, dialect: Dialect, tally: Tally): boolean {
  const lost = LOST.exec(line);
  if (lost !== null) {
    const count = lost[2] ?? lost[3];
    if (count === undefined) tally.uncountedLosses += 1;
    else tally.lose(Number(lost[1]), Number(count));
    return true;
  }
  if (line.startsWith("#")) {
    const entries = ENTRIES.exec(line);
    if (entries !== null)
      tally.lostAnywhere += Math.max(0, Number(entries[2]) - Number(entries[1]));
    return true;
  }
  if (dialect === "perf script") {
    const perfLost = PERF_LOST.exec(line);
    if (perfLost !== null) {
      tally.lostAnywhere += Number(perfLost[1]);
      return true;
    }
    return /^\s+[0-9a-f]+ .*\(.*\)$/.test(line) || line.trim() === "";
  }
  return line.trim() === "" || /^(?:cpus=|version = |CPU \d+ is empty|trace-cmd )/.test(line);
}

/** What the header of a text says. */
export interface TextHeader {
  readonly dialect: Dialect;
  /** 0 where the header does not say. */
  readonly cpus: number;
}

/** Which dialect the first lines of a text are in; undefined if they are no trace. */
export function detectDialect(lines: readonly string[]): TextHeader | undefined {
  const head = newHead();
  let dialect: Dialect | undefined;
  let cpus = 0;
  for (const line of lines) {
    const report = /^cpus=(\d+)$/.exec(line);
    const entries = ENTRIES.exec(line);
    if (report !== null) {
      cpus = Number(report[1]);
      dialect ??= "trace-cmd report";
    } else if (entries !== null) {
      cpus = Number(entries[3]);
      dialect ??= "ftrace text";
    } else if (/^# tracer: /.test(line)) {
      dialect ??= "ftrace text";
    } else if (dialect === undefined && parsePerf(line, head)) {
      dialect = "perf script";
    } else if (dialect === undefined && parseFtrace(line, head)) {
      dialect = "ftrace text";
    }
  }
  return dialect === undefined ? undefined : { dialect, cpus };
}
