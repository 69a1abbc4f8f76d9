/**
 * Opening a capture: find out what it is by its content, and give its events. A `Capture` owns
 * the file, and must be closed.
 */

import type { Readable } from "node:stream";
import { type BlockReader, RangeBlocks } from "./blocks.js";
import { CaptureError } from "./errors.js";
import type { CaptureEvent } from "./events.js";
import { BEGINNING_BYTES, openSource, outerCompressionOf, type Source } from "./source.js";
import { type CaptureFormat, type CaptureHeader, type CaptureStatistics, Tally } from "./tally.js";
import type { Dialect, TextHeader } from "./text/head.js";
import { sniffText, TextReader } from "./text/reader.js";
import { type Layout, MAGIC, TEXT_BYTES } from "./tracedat/layout.js";
import { readLayout, TraceDatReader } from "./tracedat/reader.js";

export interface Capture {
  readonly header: CaptureHeader;
  /**
   * The decoded events, from the beginning at each call; a call ends the iteration before it.
   * Throws `CaptureError` where the capture is damaged.
   */
  events(): Generator<CaptureEvent, void, undefined>;
  /** Of the iteration begun last; complete once it is exhausted. */
  readonly statistics: CaptureStatistics;
  close(): void;
}

export interface CaptureOptions {
  /** What "-" reads; by default the standard input of the process. */
  readonly stdin?: Readable;
  /** Where input that cannot be read in place is written; by default that of the system. */
  readonly temporaryDirectory?: string;
  /** Stops the opening, and the iteration at its next event. */
  readonly signal?: AbortSignal;
}

/** What gives events, whichever format it reads. */
interface EventReader {
  read(): CaptureEvent | undefined;
  settle(): void;
}

interface Opened {
  readonly header: CaptureHeader;
  readonly start: (tally: Tally) => EventReader;
}

/**
 * Open a capture: trace.dat, ftrace text, `trace-cmd report` or `perf script`, each also as a
 * whole compressed by gzip or zstd; "-" is standard input. Throws `CaptureError`.
 */
export async function openCapture(path: string, options: CaptureOptions = {}): Promise<Capture> {
  const source = await openSource(path, { ...options, checkBeginning: identify });
  try {
    return capture(source, recognise(source), options.signal);
  } catch (error) {
    source.close();
    throw error;
  }
}

function recognise(source: Source): Opened {
  const { file } = source;
  if (source.sizeBytes === 0) throw new CaptureError("EMPTY", file, "there is nothing in it");
  const buffer = Buffer.alloc(Math.min(BEGINNING_BYTES, source.sizeBytes));
  const text = identify(file, buffer.subarray(0, source.read(buffer, 0)));
  if (text === undefined) return openTraceDat(source);
  const { dialect, cpus } = text;
  const clock = dialect === "perf script" ? "perf" : "unknown";
  const header = textHeader(source, dialect, clock, cpus);
  const open = (): BlockReader => new RangeBlocks(source, 0, source.sizeBytes, TEXT_BYTES);
  return { header, start: (tally) => new TextReader(file, open(), dialect, tally) };
}

/** The kind of text; undefined for a trace.dat; throws where it is neither. */
function identify(file: string, beginning: Buffer): TextHeader | undefined {
  const magic = beginning.subarray(0, MAGIC.length);
  if (MAGIC.subarray(0, magic.length).equals(magic)) {
    if (magic.length < MAGIC.length) {
      throw new CaptureError("TRUNCATED", file, "the file ends within its first bytes");
    }
    return undefined;
  }
  if (beginning.toString("latin1", 0, 8) === "PERFILE2") {
    const remedy = "convert it with `perf script --ns`";
    throw new CaptureError("UNSUPPORTED", file, "this is a perf.data file", undefined, remedy);
  }
  if (outerCompressionOf(beginning) !== "none") {
    const remedy = "decompress it once";
    throw new CaptureError("UNSUPPORTED", file, "it is compressed twice", undefined, remedy);
  }
  const text = beginning.includes(0) ? undefined : sniffText(beginning);
  if (text === undefined) {
    throw new CaptureError("NOT_A_CAPTURE", file, "this is no trace that we know");
  }
  return text;
}

function textHeader(source: Source, format: Dialect, clock: string, cpus: number): CaptureHeader {
  return {
    file: source.file,
    format,
    version: undefined,
    compression: "none",
    outerCompression: source.outerCompression,
    clock,
    timeUnit: "ns",
    cpus,
    otherInstances: [],
    system: "",
  };
}

function openTraceDat(source: Source): Opened {
  const layout = readLayout(source);
  const { openText, options } = layout;
  const format: CaptureFormat = "trace.dat";
  const header: CaptureHeader = {
    file: source.file,
    format,
    version: layout.version,
    compression: layout.compression,
    outerCompression: source.outerCompression,
    clock: layout.clock,
    timeUnit: timeUnit(layout),
    cpus: options.cpuCount ?? layout.cpus.length,
    otherInstances: options.otherInstances,
    system: options.uname,
  };
  if (openText !== undefined) {
    const start = (tally: Tally): EventReader =>
      new TextReader(source.file, openText(), "ftrace text", tally);
    return { header, start };
  }
  return { header, start: (tally) => new TraceDatReader(source, layout, tally) };
}

/** Documentation/trace/ftrace.rst, "trace_clock": which clocks do not count nanoseconds. */
function timeUnit({ clock, options }: Layout): CaptureHeader["timeUnit"] {
  if (options.tsc !== undefined) return "ns";
  if (clock === "counter") return "count";
  return ["x86-tsc", "ppc-tb"].includes(clock) ? "cycles" : "ns";
}

function capture(source: Source, opened: Opened, signal: AbortSignal | undefined): Capture {
  let tally = new Tally();
  let iteration = 0;
  // Formats of events that cannot be decoded are found now, not after the first event.
  opened.start(tally);

  function* events(): Generator<CaptureEvent, void, undefined> {
    iteration += 1;
    const mine = iteration;
    tally = new Tally();
    const reader = opened.start(tally);
    try {
      for (;;) {
        if (mine !== iteration) return;
        if (signal?.aborted === true) {
          throw new CaptureError("ABORTED", source.file, "reading was stopped");
        }
        const event = reader.read();
        if (event === undefined) return;
        yield event;
      }
    } finally {
      reader.settle();
    }
  }

  return {
    header: opened.header,
    events,
    get statistics(): CaptureStatistics {
      return tally;
    },
    close: () => source.close(),
  };
}
