/**
 * A capture as a file that can be read at any place. Standard input, pipes and captures that are
 * compressed as a whole are written, decompressed, to a private temporary file first; its name is
 * removed as soon as it is open, so that nothing stays behind however the process ends. The
 * `Source` owns the file descriptor.
 */

import {
  closeSync,
  createReadStream,
  mkdtempSync,
  openSync,
  readSync,
  rmSync,
  statSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { setImmediate } from "node:timers/promises";
import type { ByteStore } from "./bytes.js";
import { CaptureError, systemError } from "./errors.js";
import { inflateStream } from "./inflate.js";

export type OuterCompression = "none" | "gzip" | "zstd";

export interface SourceOptions {
  readonly stdin?: Readable;
  readonly temporaryDirectory?: string;
  readonly signal?: AbortSignal;
  /**
   * Sees the beginning of what has to be written to a temporary file, once that much of it is
   * there, and throws where the rest is not worth it: input may have no end.
   */
  readonly checkBeginning?: (file: string, beginning: Buffer) => void;
}

/** Enough to find the first event behind any header. */
export const BEGINNING_BYTES = 256 * 1024;

/** Parsers of headers read a few bytes at a time; the file is read this much at a time. */
const WINDOW_BYTES = 64 * 1024;

export class Source implements ByteStore {
  readonly file: string;
  readonly sizeBytes: number;
  readonly outerCompression: OuterCompression;
  readonly #fd: number;
  readonly #removeLater: string | undefined;
  readonly #window: Buffer = Buffer.alloc(WINDOW_BYTES);
  #windowStart = 0;
  #windowLength = 0;
  #open = true;

  constructor(
    file: string,
    fd: number,
    sizeBytes: number,
    outerCompression: OuterCompression,
    removeLater?: string,
  ) {
    this.file = file;
    this.sizeBytes = sizeBytes;
    this.outerCompression = outerCompression;
    this.#fd = fd;
    this.#removeLater = removeLater;
  }

  bytes(position: number, length: number): Buffer {
    if (length > WINDOW_BYTES) {
      const own = Buffer.alloc(length);
      this.fill(own, position);
      return own;
    }
    const start = this.#windowStart;
    if (position < start || position + length > start + this.#windowLength) {
      this.#windowStart = position;
      this.#windowLength = this.read(this.#window, position);
    }
    const at = position - this.#windowStart;
    if (at + length > this.#windowLength) throw this.#ended(position);
    return this.#window.subarray(at, at + length);
  }

  offsetInFile(position: number): number {
    return position;
  }

  /** Fill the target from a position; fails if the file ends before. */
  fill(target: Buffer, position: number): void {
    if (this.read(target, position) < target.length) throw this.#ended(position);
  }

  /** Read into the target, less than all of it only at the end of the file. */
  read(target: Buffer, position: number): number {
    if (!this.#open) throw new Error(`${this.file}: read after close()`);
    let done = 0;
    try {
      while (done < target.length) {
        const count = readSync(this.#fd, target, done, target.length - done, position + done);
        if (count === 0) break;
        done += count;
      }
    } catch (error) {
      throw systemError(this.file, error);
    }
    return done;
  }

  /**
   * All of the file as a stream. (A ReadStream over the descriptor would close it when destroyed,
   * at a moment of its own choice.)
   */
  stream(): Readable {
    return Readable.from(this.#chunks(), { objectMode: false });
  }

  async *#chunks(): AsyncGenerator<Buffer> {
    for (let position = 0; ; ) {
      const chunk = Buffer.alloc(WINDOW_BYTES);
      const length = this.read(chunk, position);
      if (length === 0) return;
      yield chunk.subarray(0, length);
      position += length;
      // Reads and writes are synchronous here: let others have a turn, such as who would stop us.
      await setImmediate();
    }
  }

  close(): void {
    if (!this.#open) return;
    this.#open = false;
    closeSync(this.#fd);
    if (this.#removeLater !== undefined) removeQuietly(this.#removeLater);
  }

  #ended(position: number): CaptureError {
    return new CaptureError("TRUNCATED", this.file, "the file ends too early", {
      unit: "byte",
      at: position,
    });
  }
}

export async function openSource(path: string, options: SourceOptions): Promise<Source> {
  const file = path === "-" ? "standard input" : path;
  try {
    const source =
      path === "-"
        ? await spool(file, options.stdin ?? process.stdin, "none", options)
        : await openPath(path, options);
    return await expand(source, options);
  } catch (error) {
    throw systemError(file, error);
  }
}

async function openPath(path: string, options: SourceOptions): Promise<Source> {
  const stats = statSync(path);
  if (stats.isDirectory()) throw new CaptureError("IS_DIRECTORY", path, "this is a directory");
  if (!stats.isFile()) return await spool(path, createReadStream(path), "none", options);
  return new Source(path, openSync(path, "r"), stats.size, "none");
}

/** The source as it is, or a new one in its place if its content is compressed as a whole. */
async function expand(source: Source, options: SourceOptions): Promise<Source> {
  const head = Buffer.alloc(4);
  const compression = outerCompressionOf(head.subarray(0, source.read(head, 0)));
  if (compression === "none") return source;
  try {
    return await spool(source.file, source.stream(), compression, options);
  } finally {
    source.close();
  }
}

/** By magic number: RFC 1952 (gzip) and RFC 8878 section 3.1.1 (zstd, little-endian FD2FB528). */
export function outerCompressionOf(head: Uint8Array): OuterCompression {
  if (head[0] === 0x1f && head[1] === 0x8b) return "gzip";
  if (head[0] === 0x28 && head[1] === 0xb5 && head[2] === 0x2f && head[3] === 0xfd) return "zstd";
  return "none";
}

/** Everything that the input gives, decompressed, in a temporary file. */
async function spool(
  file: string,
  input: Readable,
  compression: OuterCompression,
  options: SourceOptions,
): Promise<Source> {
  const directory = mkdtempSync(join(options.temporaryDirectory ?? tmpdir(), "iommukit-"));
  let fd: number | undefined;
  try {
    fd = openSync(join(directory, "capture"), "wx+", 0o600);
    const gone = removeQuietly(directory);
    const sizeBytes = await copy(file, input, compression, fd, options);
    return new Source(file, fd, sizeBytes, compression, gone ? undefined : directory);
  } catch (error) {
    if (fd !== undefined) closeSync(fd);
    removeQuietly(directory);
    throw error;
  }
}

async function copy(
  file: string,
  input: Readable,
  compression: OuterCompression,
  fd: number,
  { signal, checkBeginning }: SourceOptions,
): Promise<number> {
  let sizeBytes = 0;
  const check = (before: number): void => {
    if (before >= BEGINNING_BYTES || sizeBytes < BEGINNING_BYTES) return;
    const beginning = Buffer.alloc(BEGINNING_BYTES);
    readSync(fd, beginning, 0, BEGINNING_BYTES, 0);
    // What is compressed is looked at when it is decompressed.
    if (compression === "none" && outerCompressionOf(beginning) !== "none") return;
    checkBeginning?.(file, beginning);
  };
  const write = async (chunks: AsyncIterable<Buffer>): Promise<void> => {
    for await (const chunk of chunks) {
      for (let done = 0; done < chunk.length; ) {
        done += writeSync(fd, chunk, done, chunk.length - done);
      }
      sizeBytes += chunk.length;
      check(sizeBytes - chunk.length);
    }
  };
  const options = signal === undefined ? {} : { signal };
  if (compression === "none") {
    await pipeline(input, write, options);
    return sizeBytes;
  }
  const inflated = inflateStream(compression);
  let damage: Error | undefined;
  inflated.once("error", (error: Error) => {
    damage = error;
  });
  try {
    await pipeline(input, inflated, write, options);
  } catch (error) {
    if (damage === undefined || damage.name === "AbortError") throw error;
    const cut = /unexpected (end|EOF)/i.test(damage.message);
    const how = cut ? "cut short" : `damaged (${damage.message})`;
    const what = `the ${compression} stream is ${how}`;
    throw new CaptureError(cut ? "TRUNCATED" : "CORRUPT", file, what);
  }
  return sizeBytes;
}

/** True if it is gone; some systems keep the name of a file that is open. */
function removeQuietly(directory: string): boolean {
  try {
    rmSync(directory, { recursive: true, force: true });
    return true;
  } catch {
    return false;
  }
}
