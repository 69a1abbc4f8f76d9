/**
 * What a capture says of itself (header) and what was counted while reading it (statistics).
 * `Tally` is the writable side of the statistics; the reader of a capture owns it and users see
 * it through `CaptureStatistics`.
 */

export type CaptureFormat = "trace.dat" | "ftrace text" | "trace-cmd report" | "perf script";

export interface CaptureHeader {
  readonly file: string;
  readonly format: CaptureFormat;
  /** Version of the trace.dat format, undefined for text. */
  readonly version: number | undefined;
  /** "none", "zstd", "zlib", ..: of the sections of a trace.dat. */
  readonly compression: string;
  /** Compression around the whole file. */
  readonly outerCompression: "none" | "gzip" | "zstd";
  /** The trace clock, "unknown" where the capture does not say. */
  readonly clock: string;
  /** What `timeNs` of the events counts; not nanoseconds for clocks nobody can convert. */
  readonly timeUnit: "ns" | "cycles" | "count";
  /** CPUs that the capture speaks of; for text without a header those seen at its beginning. */
  readonly cpus: number;
  /** Names of buffer instances other than the top one, which are not read. */
  readonly otherInstances: readonly string[];
  /** `uname` of the traced machine, "" where unknown. */
  readonly system: string;
}

/** Complete once `events()` is exhausted. */
export interface CaptureStatistics {
  /** All events, decoded or not. */
  readonly events: number;
  readonly decoded: number;
  readonly byName: ReadonlyMap<string, number>;
  /** Events that the kernel or the recorder dropped, as far as the capture tells their number. */
  readonly lost: number;
  readonly lostByCpu: readonly number[];
  /** Times that a capture says "events were lost" without saying how many. */
  readonly uncountedLosses: number;
  readonly firstNs: number;
  readonly lastNs: number;
  /** Events whose time is before that of the event before them. */
  readonly backwards: number;
  /** Lines of text that are neither event, comment nor notice. */
  readonly unrecognisedLines: number;
}

/** More CPUs than Linux can have (NR_CPUS is at most 8192), so that no number in a damaged file
 * makes a table huge. */
export const CPUS_MAX = 65_536;

export class Tally implements CaptureStatistics {
  events = 0;
  decoded = 0;
  uncountedLosses = 0;
  firstNs = 0;
  lastNs = 0;
  backwards = 0;
  unrecognisedLines = 0;
  /** Losses that no CPU is named for. */
  lostAnywhere = 0;
  byName: Map<string, number> = new Map();
  /** Losses as the stream itself tells them, and as the recorder's totals at the end do. */
  readonly #lostInStream: number[] = [];
  readonly #lostInTotals: number[] = [];
  #previousNs = 0;

  time(timeNs: number): void {
    if (this.events === 0) this.firstNs = timeNs;
    else if (timeNs < this.#previousNs) this.backwards += 1;
    this.#previousNs = timeNs;
    if (timeNs > this.lastNs) this.lastNs = timeNs;
    this.events += 1;
  }

  count(name: string, times: number): void {
    this.byName.set(name, (this.byName.get(name) ?? 0) + times);
  }

  lose(cpu: number, events: number): void {
    if (cpu >= CPUS_MAX) this.lostAnywhere += events;
    else this.#lostInStream[cpu] = (this.#lostInStream[cpu] ?? 0) + events;
  }

  loseInTotal(cpu: number, events: number): void {
    if (cpu >= CPUS_MAX) this.lostAnywhere += events;
    else this.#lostInTotals[cpu] = (this.#lostInTotals[cpu] ?? 0) + events;
  }

  /**
   * A recorder's totals include what the pages of the stream tell, so the larger of the two
   * counts, not their sum.
   */
  get lostByCpu(): readonly number[] {
    const cpus = Math.max(this.#lostInStream.length, this.#lostInTotals.length);
    return Array.from({ length: cpus }, (_, cpu) =>
      Math.max(this.#lostInStream[cpu] ?? 0, this.#lostInTotals[cpu] ?? 0),
    );
  }

  get lost(): number {
    return this.lostByCpu.reduce((sum, count) => sum + count, this.lostAnywhere);
  }
}
