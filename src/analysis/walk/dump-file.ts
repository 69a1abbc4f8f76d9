/**
 * A memory dump as a file: raw RAM, or an ELF core as `dump-guest-memory` and /proc/vmcore have
 * it. Read page by page where a walk looks, never as a whole; a compressed dump is unpacked to a
 * private temporary file first, in which zeros take no room. A `DumpFile` owns the descriptor.
 */

import {
  closeSync,
  createReadStream,
  fstatSync,
  ftruncateSync,
  mkdtempSync,
  openSync,
  readSync,
  rmSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { inflateStream, outerCompressionOf } from "#capture";
import { InputError } from "../errors.js";
import { elfSegments, type FileSegment, foreignFormat } from "./dump-formats.js";
import type { DumpMemory, MemoryRange } from "./memory.js";

/** 16 MiB: what a walk of everything looks at again lies close together. */
const CACHED_PAGES = 4096;
const PAGE_BYTES = 4096;
const ZEROS = Buffer.alloc(PAGE_BYTES);
/** Enough for any magic number. */
const HEAD_BYTES = 64;
/** Nothing has more: physical addresses have 52 bits. */
const ADDRESS_LIMIT = 2 ** 52;

export interface DumpOptions {
  /** Address of the first byte of a raw dump. */
  readonly base: number;
  readonly signal?: AbortSignal;
  /** Told of the bytes that are unpacked so far. */
  readonly onUnpacked?: (bytes: number) => void;
}

export class DumpFile implements DumpMemory {
  readonly file: string;
  readonly format: "raw" | "ELF core";
  readonly ranges: readonly MemoryRange[];
  readonly #fd: number;
  readonly #segments: readonly FileSegment[];
  readonly #pages = new Map<number, DataView>();

  constructor(file: string, fd: number, format: "raw" | "ELF core", segments: FileSegment[]) {
    this.file = file;
    this.format = format;
    this.#fd = fd;
    this.#segments = segments;
    this.ranges = segments.map(({ address, bytes }) => ({
      first: address,
      last: address + bytes - 1,
    }));
  }

  read(address: number, words: Uint32Array): boolean {
    const bytes = words.length * 4;
    const segment = this.#segments.find(
      (one) => address >= one.address && address + bytes <= one.address + one.bytes,
    );
    if (segment === undefined) return false;
    let at = segment.offset + (address - segment.address);
    for (let word = 0; word < words.length; ) {
      const page = this.#page(Math.floor(at / PAGE_BYTES));
      // Less than a page comes from a file that was cut while it is open.
      for (let offset = at % PAGE_BYTES; word < words.length && offset < PAGE_BYTES; offset += 4) {
        if (offset + 4 > page.byteLength) return false;
        words[word++] = page.getUint32(offset, true);
        at += 4;
      }
    }
    return true;
  }

  close(): void {
    closeSync(this.#fd);
  }

  /** A page of the file, shorter at its end. The least recently used one makes room. */
  #page(number: number): DataView {
    let page = this.#pages.get(number);
    if (page !== undefined) {
      this.#pages.delete(number);
    } else {
      const bytes = Buffer.alloc(PAGE_BYTES);
      const length = readFully(this.file, this.#fd, bytes, number * PAGE_BYTES);
      page = new DataView(bytes.buffer, bytes.byteOffset, length);
      if (this.#pages.size >= CACHED_PAGES) {
        for (const oldest of this.#pages.keys()) {
          this.#pages.delete(oldest);
          break;
        }
      }
    }
    this.#pages.set(number, page);
    return page;
  }
}

/** Opens a dump. Throws `InputError`. */
export async function openDump(file: string, options: DumpOptions): Promise<DumpFile> {
  let fd: number;
  try {
    fd = openSync(file, "r");
  } catch (error) {
    throw systemError(file, error);
  }
  try {
    const status = fstatSync(fd);
    if (!status.isFile()) {
      throw new InputError(
        `${file}: this is no regular file, and a dump is read here and there; copy it to one`,
      );
    }
    if (status.size === 0) throw new InputError(`${file}: there is nothing in it; dump it again`);
    const head = Buffer.alloc(HEAD_BYTES);
    const length = readFully(file, fd, head, 0);
    const compression = outerCompressionOf(head.subarray(0, length));
    if (compression !== "none") {
      const unpacked = await unpack(file, compression, options);
      closeSync(fd);
      fd = unpacked;
      readFully(file, fd, head, 0);
    }
    return asDump(file, fd, head, options.base);
  } catch (error) {
    closeSync(fd);
    throw systemError(file, error);
  }
}

function asDump(file: string, fd: number, head: Buffer, base: number): DumpFile {
  const { size } = fstatSync(fd);
  const foreign = foreignFormat(head);
  if (foreign !== undefined) throw new InputError(`${file}: this is ${foreign}`);
  const read = (target: Buffer, position: number): number => readFully(file, fd, target, position);
  const segments = elfSegments(file, head, size, read);
  if (segments !== undefined) return new DumpFile(file, fd, "ELF core", segments);
  if (base + size > ADDRESS_LIMIT) {
    const end = `0x${(base + size).toString(16)}`;
    throw new InputError(`${file}: with that base it would end at ${end}, beyond 2^52; check it`);
  }
  return new DumpFile(file, fd, "raw", [{ address: base, offset: 0, bytes: size }]);
}

/** Reads what there is, up to the target's length. */
function readFully(file: string, fd: number, target: Buffer, position: number): number {
  let done = 0;
  try {
    while (done < target.length) {
      const count = readSync(fd, target, done, target.length - done, position + done);
      if (count === 0) break;
      done += count;
    }
  } catch (error) {
    throw systemError(file, error);
  }
  return done;
}

/** The content in a temporary file whose name is gone already; returns its descriptor. */
async function unpack(
  file: string,
  compression: "gzip" | "zstd",
  { signal, onUnpacked }: DumpOptions,
): Promise<number> {
  const directory = mkdtempSync(join(tmpdir(), "iommukit-"));
  const fd = openSync(join(directory, "dump"), "wx+", 0o600);
  rmSync(directory, { recursive: true, force: true });
  let damage: Error | undefined;
  try {
    const inflated = inflateStream(compression);
    inflated.once("error", (error: Error) => {
      damage = error;
    });
    let sizeBytes = 0;
    const write = async (chunks: AsyncIterable<Buffer>): Promise<void> => {
      for await (const chunk of chunks) {
        writeSparsely(fd, chunk, sizeBytes);
        sizeBytes += chunk.length;
        onUnpacked?.(sizeBytes);
      }
      ftruncateSync(fd, sizeBytes);
    };
    const input = createReadStream(file);
    await pipeline(input, inflated, write, signal === undefined ? {} : { signal });
    return fd;
  } catch (error) {
    closeSync(fd);
    if (damage === undefined || damage.name === "AbortError") throw error;
    const how = /unexpected (end|EOF)/i.test(damage.message)
      ? "is cut short; copy the dump again, whole"
      : `is damaged (${damage.message}); copy the dump again`;
    throw new InputError(`${file}: the ${compression} stream ${how}`);
  }
}

/** Leaves out pages of zeros: most of a machine's memory is. */
function writeSparsely(fd: number, chunk: Buffer, position: number): void {
  for (let from = 0; from < chunk.length; from += PAGE_BYTES) {
    const part = chunk.subarray(from, from + PAGE_BYTES);
    if (part.equals(ZEROS.subarray(0, part.length))) continue;
    for (let done = 0; done < part.length; ) {
      done += writeSync(fd, part, done, part.length - done, position + from + done);
    }
  }
}

/** A failure of the operating system as a line that names the file. */
function systemError(file: string, error: unknown): unknown {
  const { code, name } = error as NodeJS.ErrnoException;
  if (error instanceof InputError || name === "AbortError" || code === undefined) return error;
  if (code === "ENOENT") return new InputError(`${file}: there is no such file; check the path`);
  if (code === "ENOSPC") {
    return new InputError(`${file}: no room to unpack it; set TMPDIR to where there is`);
  }
  return new InputError(`${file}: reading failed (${code}); check the file and its permissions`);
}
