/**
 * Bytes at positions: what both a file and a decompressed section look like to the parsers, and
 * a cursor over them in the byte order of the capture. Every read is checked against the end, so
 * no number in a damaged file leads anywhere but to a `CaptureError`. A cursor holds its store
 * and owns nothing.
 */

import { CaptureError } from "./errors.js";

export interface ByteStore {
  readonly file: string;
  readonly sizeBytes: number;
  /** The bytes of a range that lies within the store. They may be overwritten by the next call. */
  bytes(position: number, length: number): Buffer;
  /** The byte of the file to name in an error about this position. */
  offsetInFile(position: number): number;
}

/** A decompressed section; errors name the place in the file where the section begins. */
export function memoryStore(file: string, content: Buffer, sectionOffset: number): ByteStore {
  return {
    file,
    sizeBytes: content.length,
    bytes: (position, length) => content.subarray(position, position + length),
    offsetInFile: () => sectionOffset,
  };
}

export class ByteCursor {
  readonly store: ByteStore;
  readonly littleEndian: boolean;
  position: number;

  constructor(store: ByteStore, position: number, littleEndian: boolean) {
    this.store = store;
    this.position = position;
    this.littleEndian = littleEndian;
  }

  /** The next bytes, valid until the next read. */
  bytes(length: number, what: string): Buffer {
    const position = this.position;
    if (length > this.store.sizeBytes - position) {
      throw this.error("TRUNCATED", `the file ends within ${what}`);
    }
    this.position += length;
    return this.store.bytes(position, length);
  }

  u16(what: string): number {
    const bytes = this.bytes(2, what);
    return this.littleEndian ? bytes.readUInt16LE(0) : bytes.readUInt16BE(0);
  }

  u32(what: string): number {
    const bytes = this.bytes(4, what);
    return this.littleEndian ? bytes.readUInt32LE(0) : bytes.readUInt32BE(0);
  }

  /** A 64-bit number; beyond 2^53 it is rounded, and no limit that we check is that large. */
  u64(what: string): number {
    const first = this.u32(what);
    const second = this.u32(what);
    return this.littleEndian ? second * 2 ** 32 + first : first * 2 ** 32 + second;
  }

  /** A size read from the file, refused above `limitBytes` before anything is allocated. */
  size(width: 4 | 8, limitBytes: number, what: string): number {
    const at = this.position;
    const size = width === 4 ? this.u32(what) : this.u64(what);
    if (size > limitBytes) {
      this.position = at;
      throw this.error("CORRUPT", `the size of ${what} is ${size} bytes, more than can be`);
    }
    return size;
  }

  /** A 32-bit number of things, refused above `limit`. */
  count(limit: number, what: string): number {
    const at = this.position;
    const count = this.u32(what);
    if (count > limit) {
      this.position = at;
      throw this.error("CORRUPT", `${what} is ${count}, more than can be`);
    }
    return count;
  }

  /** A string up to its NUL. */
  text(limitBytes: number, what: string): string {
    const window = Math.max(0, Math.min(limitBytes, this.store.sizeBytes - this.position));
    const bytes = this.store.bytes(this.position, window);
    const end = bytes.indexOf(0);
    if (end < 0) {
      const code = window < limitBytes ? "TRUNCATED" : "CORRUPT";
      throw this.error(code, `${what} has no end within ${window} bytes`);
    }
    const text = bytes.toString("utf8", 0, end);
    this.position += end + 1;
    return text;
  }

  skip(length: number, what: string): void {
    if (length > this.store.sizeBytes - this.position) {
      throw this.error("TRUNCATED", `the file ends within ${what}`);
    }
    this.position += length;
  }

  error(code: "CORRUPT" | "TRUNCATED" | "UNSUPPORTED", what: string): CaptureError {
    const at = this.store.offsetInFile(this.position);
    return new CaptureError(code, this.store.file, what, { unit: "byte", at });
  }
}
