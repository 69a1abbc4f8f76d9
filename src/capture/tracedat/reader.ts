/**
 * A trace.dat as events in the order of time: the records of all CPUs merged, those of interest
 * decoded, all of them counted. The reader owns the readers of the CPUs; the source is the
 * capture's.
 */

import { CaptureError } from "../errors.js";
import type { CaptureEvent, Place } from "../events.js";
import type { Source } from "../source.js";
import { StringCache } from "../strings.js";
import type { Tally } from "../tally.js";
import { type Decoder, makeDecoder } from "./decode.js";
import { readNumber } from "./fields.js";
import type { CommonFields } from "./formats.js";
import { type Layout, readInitialFormat } from "./layout.js";
import { CpuReader } from "./ringbuffer.js";
import { readVersion6 } from "./version6.js";
import { readVersion7 } from "./version7.js";

export function readLayout(source: Source): Layout {
  const { initial, cursor } = readInitialFormat(source);
  return initial.version === 6
    ? readVersion6(source, initial, cursor)
    : readVersion7(source, initial, cursor);
}

/** Ids are 16 bits wide. */
const EVENT_IDS = 65_536;

export class TraceDatReader {
  readonly #layout: Layout;
  readonly #tally: Tally;
  readonly #common: CommonFields;
  readonly #commonBytes: number;
  readonly #decoders: (Decoder | undefined)[];
  /** A heap of the CPUs that have records left, by the time of the next one. */
  readonly #heap: CpuReader[] = [];
  readonly #counts = new Float64Array(EVENT_IDS);
  readonly #place: Place = { timeNs: 0, cpu: 0, pid: 0, task: "" };
  /** Timestamps become nanoseconds by (time * scale), rounded down, + offset. */
  readonly #scale: number;
  readonly #offsetNs: number;

  constructor(source: Source, layout: Layout, tally: Tally) {
    this.#layout = layout;
    this.#tally = tally;
    const { common, decoded } = layout.formats;
    if (common === undefined) {
      throw new CaptureError("CORRUPT", source.file, "it holds no formats of events");
    }
    this.#common = common;
    this.#commonBytes = Math.max(common.type.offset + 2, common.pid.offset + 4);
    this.#decoders = new Array<Decoder | undefined>(EVENT_IDS).fill(undefined);
    const strings = new StringCache();
    for (const [id, format] of decoded) {
      this.#decoders[id] = makeDecoder(source.file, format, strings);
    }
    const { tsc, timeOffsetNs, cpuStatistics } = layout.options;
    this.#scale = tsc === undefined ? 1 : tsc.multiplier / 2 ** tsc.shift;
    this.#offsetNs = timeOffsetNs;
    for (const { cpu, lost } of cpuStatistics) tally.loseInTotal(cpu, lost);
    for (const range of layout.cpus) {
      if (range.sizeBytes === 0) continue;
      const reader = new CpuReader(source.file, range.cpu, layout.openCpu(range), layout, tally);
      if (!reader.advance()) continue;
      this.#heap.push(reader);
      this.#siftUp();
    }
  }

  /** The next event that is decoded; undefined at the end. */
  read(): CaptureEvent | undefined {
    const heap = this.#heap;
    while (heap.length > 0) {
      const record = heap[0];
      if (record.sizeBytes < this.#commonBytes) {
        throw record.corrupt(record.start, "a record is too short to be an event");
      }
      const id = readNumber(record, this.#common.type);
      this.#counts[id] += 1;
      const timeNs = Math.floor(record.time * this.#scale) + this.#offsetNs;
      this.#tally.time(timeNs);
      const decoder = this.#decoders[id];
      const event = decoder === undefined ? undefined : this.#decode(record, decoder, timeNs);
      if (!record.advance()) this.#drop();
      this.#siftDown();
      if (event !== undefined) return event;
    }
    return undefined;
  }

  /** Put what was counted by id into the tally by name. */
  settle(): void {
    for (let id = 0; id < EVENT_IDS; id += 1) {
      const count = this.#counts[id];
      if (count === 0) continue;
      this.#tally.count(this.#layout.formats.names.get(id) ?? `event ${id}`, count);
      this.#counts[id] = 0;
    }
  }

  #decode(record: CpuReader, decoder: Decoder, timeNs: number): CaptureEvent {
    const place = this.#place;
    const pid = readNumber(record, this.#common.pid);
    place.timeNs = timeNs;
    place.cpu = record.cpu;
    place.pid = pid;
    place.task = this.#layout.tasks.get(pid) ?? "";
    this.#tally.decoded += 1;
    return decoder(record, place);
  }

  #drop(): void {
    const last = this.#heap.pop();
    if (last !== undefined && this.#heap.length > 0) this.#heap[0] = last;
  }

  #siftUp(): void {
    const heap = this.#heap;
    let at = heap.length - 1;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!isBefore(heap[at], heap[parent])) return;
      swap(heap, at, parent);
      at = parent;
    }
  }

  #siftDown(): void {
    const heap = this.#heap;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= heap.length) return;
      if (child + 1 < heap.length && isBefore(heap[child + 1], heap[child])) child += 1;
      if (!isBefore(heap[child], heap[at])) return;
      swap(heap, at, child);
      at = child;
    }
  }
}

/** Events of the same time come in the order of their CPUs, as trace-cmd prints them. */
function isBefore(one: CpuReader, other: CpuReader): boolean {
  return one.time < other.time || (one.time === other.time && one.cpu < other.cpu);
}

function swap(heap: CpuReader[], one: number, other: number): void {
  const held = heap[one];
  heap[one] = heap[other];
  heap[other] = held;
}
