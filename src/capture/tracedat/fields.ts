/**
 * Reading the fields of a record at the offsets and sizes that the file gives for them: what is
 * looked up and checked once becomes a function that only reads. Owns nothing.
 */

import { CaptureError } from "../errors.js";
import { DIRECTIONS, type DmaDirection } from "../events.js";
import type { StringCache } from "../strings.js";
import type { EventFormat, Field } from "./formats.js";
import type { CpuReader } from "./ringbuffer.js";

/** A number in the record. */
export function readNumber(record: CpuReader, field: Field): number {
  const at = record.start + field.offset;
  const { view, littleEndian } = record;
  switch (field.sizeBytes) {
    case 8:
      return readU64(view, at, littleEndian);
    case 4:
      return field.signed ? view.getInt32(at, littleEndian) : view.getUint32(at, littleEndian);
    case 2:
      return field.signed ? view.getInt16(at, littleEndian) : view.getUint16(at, littleEndian);
    default:
      return view.getUint8(at);
  }
}

/** 64-bit fields are all unsigned; beyond 2^53 they are rounded. */
function readU64(view: DataView, at: number, littleEndian: boolean): number {
  const first = view.getUint32(at, littleEndian);
  const second = view.getUint32(at + 4, littleEndian);
  return littleEndian ? second * 2 ** 32 + first : first * 2 ** 32 + second;
}

/** Fields of one event, checked when they are asked for and not at every record. */
export class FieldSet {
  readonly #file: string;
  readonly #format: EventFormat;
  readonly #strings: StringCache;
  /** A record that is shorter than this lacks a field. */
  sizeBytesMin = 0;

  constructor(file: string, format: EventFormat, strings: StringCache) {
    this.#file = file;
    this.#format = format;
    this.#strings = strings;
  }

  has(name: string): boolean {
    return this.#format.fields.has(name);
  }

  number(name: string): (record: CpuReader) => number {
    const field = this.#field(name);
    if (![1, 2, 4, 8].includes(field.sizeBytes)) throw this.#unsupported(name);
    return (record) => readNumber(record, field);
  }

  /** For fields that kernels of some age do not have. */
  numberOr(name: string, otherwise: number): (record: CpuReader) => number {
    return this.has(name) ? this.number(name) : () => otherwise;
  }

  direction(): (record: CpuReader) => DmaDirection {
    const direction = this.numberOr("dir", 0);
    return (record) => {
      const value = direction(record);
      const name = DIRECTIONS[value];
      if (name === undefined) throw record.corrupt(record.start, `${value} is no DMA direction`);
      return name;
    };
  }

  /** A string, up to its NUL or the end of the field. */
  text(name: string): (record: CpuReader) => string {
    const field = this.#field(name);
    const strings = this.#strings;
    if (field.located === "here") {
      // `char buf[]` has size 0 and goes to the end of the record.
      return ({ bytes, start, sizeBytes }) =>
        strings.text(
          bytes,
          start + field.offset,
          start + (field.sizeBytes === 0 ? sizeBytes : field.offset + field.sizeBytes),
        );
    }
    return (record) => {
      const word = readNumber(record, field);
      const at = dataStart(record, field, word);
      return strings.text(record.bytes, at, at + (word >>> 16));
    };
  }

  /** A dynamic array of numbers. */
  numbers(name: string, widthBytes: 4 | 8): (record: CpuReader) => number[] {
    const field = this.#field(name);
    if (field.located === "here") throw this.#unsupported(name);
    return (record) => {
      const word = readNumber(record, field);
      const at = dataStart(record, field, word);
      const { view, littleEndian } = record;
      const values: number[] = [];
      const end = at + Math.floor((word >>> 16) / widthBytes) * widthBytes;
      for (let next = at; next < end; next += widthBytes) {
        values.push(
          widthBytes === 8 ? readU64(view, next, littleEndian) : view.getUint32(next, littleEndian),
        );
      }
      return values;
    };
  }

  #field(name: string): Field {
    const field = this.#format.fields.get(name);
    if (field === undefined) throw this.#unsupported(name);
    // The offset-and-length word of data elsewhere in the record is 32 bits wide.
    if (field.located !== "here" && field.sizeBytes !== 4) throw this.#unsupported(name);
    this.sizeBytesMin = Math.max(this.sizeBytesMin, field.offset + field.sizeBytes);
    return field;
  }

  #unsupported(name: string): CaptureError {
    const what = `this kernel's event ${this.#format.name} has no field ${name} as we know it`;
    return new CaptureError("UNSUPPORTED", this.#file, what);
  }
}

/** Where dynamic data begin; `__data_loc` and `__rel_loc` (include/trace/stages). */
function dataStart(record: CpuReader, field: Field, word: number): number {
  const base = field.located === "relative" ? field.offset + field.sizeBytes : 0;
  const offset = base + (word & 0xffff);
  if (offset + (word >>> 16) > record.sizeBytes) {
    throw record.corrupt(record.start, `the data of ${field.name} lie beyond its record`);
  }
  return record.start + offset;
}
