/**
 * The records of one CPU: pages of the kernel's ring buffer, as kernel/trace/ring_buffer.c lays
 * them out and Documentation/trace/ring-buffer-design.rst and `events/header_event` describe
 * them. A reader owns its place in the data; the page that it stands on is in memory, no more.
 */

import type { BlockReader } from "../blocks.js";
import { CaptureError } from "../errors.js";
import type { Tally } from "../tally.js";
import type { Layout } from "./layout.js";

/** Record types, `enum ring_buffer_type` in include/linux/ring_buffer.h. */
const TYPE_LARGE = 0;
const TYPE_PADDING = 29;
const TYPE_TIME_EXTEND = 30;
const TYPE_TIME_STAMP = 31;

/** Bits of a record's time delta; the word above it holds the higher ones (`TS_SHIFT`). */
const DELTA_RANGE = 2 ** 27;
const DELTA_MASK = DELTA_RANGE - 1;
/** An absolute time stamp has 59 bits; the bits above are those of the time before it. */
const STAMP_RANGE = 2 ** 59;

/** Flags of the commit field: RB_MISSED_EVENTS and RB_MISSED_STORED. */
const MISSED_EVENTS = 0x8000_0000;
const MISSED_STORED = 0x4000_0000;
/** As trace-cmd has it (COMMIT_MASK in lib/traceevent's kbuffer); larger than any sub-buffer. */
const COMMIT_MASK = 2 ** 27 - 1;

export class CpuReader {
  readonly cpu: number;
  /** Time stamp of the current record, in units of the trace clock. */
  time = 0;
  /** The current record, from its `common_type`: a range of `bytes` and `view`. */
  start = 0;
  sizeBytes = 0;
  bytes: Buffer = Buffer.alloc(0);
  view: DataView = new DataView(new ArrayBuffer(0));

  readonly littleEndian: boolean;
  readonly #file: string;
  readonly #blocks: BlockReader;
  readonly #layout: Layout;
  readonly #tally: Tally;
  /** The next page of the block in memory. */
  #pageNext = 0;
  /** The next record of the current page, and the end of what was committed to it. */
  #next = 0;
  #end = 0;

  constructor(file: string, cpu: number, blocks: BlockReader, layout: Layout, tally: Tally) {
    this.#file = file;
    this.cpu = cpu;
    this.littleEndian = layout.littleEndian;
    this.#blocks = blocks;
    this.#layout = layout;
    this.#tally = tally;
  }

  /** Go to the next record; false at the end of the CPU's data. */
  advance(): boolean {
    const littleEndian = this.littleEndian;
    for (;;) {
      while (this.#next >= this.#end) {
        if (!this.#nextPage()) return false;
      }
      const at = this.#next;
      if (at + 4 > this.#end) throw this.corrupt(at, "a record ends beyond its page");
      const word = this.view.getUint32(at, littleEndian);
      // struct ring_buffer_event: bit fields start at the low end on little-endian machines only.
      const type = littleEndian ? word & 31 : word >>> 27;
      const delta = littleEndian ? word >>> 5 : word & DELTA_MASK;
      if (type > TYPE_LARGE && type < TYPE_PADDING) {
        this.start = at + 4;
        this.sizeBytes = type * 4;
      } else {
        if (type === TYPE_PADDING && delta === 0) {
          this.#next = this.#end;
          continue;
        }
        if (at + 8 > this.#end) throw this.corrupt(at, "a record ends beyond its page");
        const second = this.view.getUint32(at + 4, littleEndian);
        if (type !== TYPE_LARGE) {
          this.#special(at, type, delta, second);
          continue;
        }
        if (second < 4) throw this.corrupt(at, "a record is shorter than its header");
        this.start = at + 8;
        this.sizeBytes = second - 4;
      }
      this.#next = this.start + Math.ceil(this.sizeBytes / 4) * 4;
      if (this.#next > this.#end) throw this.corrupt(at, "a record ends beyond its page");
      this.time += delta;
      return true;
    }
  }

  /** Padding of a given length (a discarded record), or time without a record. */
  #special(at: number, type: number, delta: number, second: number): void {
    if (type === TYPE_PADDING) {
      this.#next = at + 4 + Math.max(4, Math.ceil(second / 4) * 4);
      this.time += delta;
      return;
    }
    const time = second * DELTA_RANGE + delta;
    if (type === TYPE_TIME_EXTEND) this.time += time;
    if (type === TYPE_TIME_STAMP) {
      this.time = Math.floor(this.time / STAMP_RANGE) * STAMP_RANGE + time;
    }
    this.#next = at + 8;
  }

  #nextPage(): boolean {
    const { pageFormat, pageBytes } = this.#layout;
    if (this.#pageNext >= this.bytes.length) {
      const block = this.#blocks.read();
      if (block === undefined) return false;
      this.bytes = block;
      this.view = new DataView(block.buffer, block.byteOffset, block.length);
      this.#pageNext = 0;
    }
    const page = this.#pageNext;
    const limit = Math.min(page + pageBytes, this.bytes.length);
    const data = page + pageFormat.dataOffset;
    this.#pageNext = limit;
    if (data > limit) throw this.corrupt(page, "a page ends within its header");
    const view = this.view;
    this.time = this.#u64(page + pageFormat.timestampOffset);
    // The flags are in the low 32 bits of the commit field, be it 4 or 8 bytes wide.
    const commitLow =
      page + pageFormat.commitOffset + (this.littleEndian || pageFormat.commitBytes === 4 ? 0 : 4);
    const commit = view.getUint32(commitLow, this.littleEndian);
    this.#next = data;
    this.#end = data + (commit & COMMIT_MASK);
    if (this.#end > limit) throw this.corrupt(page, "a page holds more than it can");
    if ((commit & MISSED_EVENTS) !== 0) this.#missed(commit, limit);
    return true;
  }

  /** Events were overwritten before this page; their number stands behind the data, if it fits. */
  #missed(commit: number, limit: number): void {
    const { commitBytes } = this.#layout.pageFormat;
    const at = this.#end;
    if ((commit & MISSED_STORED) === 0 || at + commitBytes > limit) {
      this.#tally.uncountedLosses += 1;
      return;
    }
    const count = commitBytes === 8 ? this.#u64(at) : this.view.getUint32(at, this.littleEndian);
    this.#tally.lose(this.cpu, count);
  }

  #u64(at: number): number {
    const first = this.view.getUint32(at, this.littleEndian);
    const second = this.view.getUint32(at + 4, this.littleEndian);
    return this.littleEndian ? second * 2 ** 32 + first : first * 2 ** 32 + second;
  }

  corrupt(at: number, what: string): CaptureError {
    const place = { unit: "byte", at: this.#blocks.offsetInFile(at) } as const;
    return new CaptureError("CORRUPT", this.#file, `CPU ${this.cpu}: ${what}`, place);
  }
}
