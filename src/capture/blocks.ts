/**
 * Sequential data of a capture as blocks: a range of the file as it is, or the chunks of a
 * compressed section, one chunk in memory at a time. The source belongs to the capture.
 */

import { ByteCursor } from "./bytes.js";
import { CaptureError } from "./errors.js";
import { type BlockCompression, inflateBlock } from "./inflate.js";
import type { Source } from "./source.js";

export interface BlockReader {
  /** The next block, valid until the next call; undefined at the end. */
  read(): Buffer | undefined;
  /** The byte of the file to name in an error about this byte of the block read last. */
  offsetInFile(position: number): number;
}

/** An uncompressed range. Every block but the last has `blockBytes` bytes. */
export class RangeBlocks implements BlockReader {
  readonly #source: Source;
  readonly #buffer: Buffer;
  readonly #endPosition: number;
  #blockStart = 0;
  #next: number;

  constructor(source: Source, position: number, sizeBytes: number, blockBytes: number) {
    this.#source = source;
    this.#next = position;
    this.#endPosition = position + sizeBytes;
    this.#buffer = Buffer.alloc(blockBytes);
  }

  read(): Buffer | undefined {
    const length = Math.min(this.#buffer.length, this.#endPosition - this.#next);
    if (length <= 0) return undefined;
    const block = this.#buffer.subarray(0, length);
    this.#source.fill(block, this.#next);
    this.#blockStart = this.#next;
    this.#next += length;
    return block;
  }

  offsetInFile(position: number): number {
    return this.#blockStart + position;
  }
}

/** trace-cmd.dat.v7(5), "Compression format of the trace data". */
export class ChunkBlocks implements BlockReader {
  readonly #source: Source;
  readonly #cursor: ByteCursor;
  readonly #compression: BlockCompression;
  readonly #chunkBytesMax: number;
  readonly #endPosition: number;
  #chunksLeft: number;
  #chunkStart: number;

  constructor(
    source: Source,
    position: number,
    sizeBytes: number,
    littleEndian: boolean,
    compression: BlockCompression,
    chunkBytesMax: number,
  ) {
    this.#source = source;
    this.#cursor = new ByteCursor(source, position, littleEndian);
    this.#compression = compression;
    this.#chunkBytesMax = chunkBytesMax;
    this.#endPosition = position + sizeBytes;
    this.#chunkStart = position;
    this.#chunksLeft = sizeBytes === 0 ? 0 : this.#cursor.u32("the number of chunks");
  }

  read(): Buffer | undefined {
    if (this.#chunksLeft === 0) return undefined;
    this.#chunksLeft -= 1;
    const cursor = this.#cursor;
    this.#chunkStart = cursor.position;
    const packedBytes = cursor.size(4, this.#chunkBytesMax, "a compressed chunk");
    const sizeBytes = cursor.size(4, this.#chunkBytesMax, "a chunk");
    if (cursor.position + packedBytes > this.#endPosition) {
      throw cursor.error("CORRUPT", "a chunk is larger than the data of its CPU");
    }
    const packed = cursor.bytes(packedBytes, "a chunk");
    try {
      return inflateBlock(this.#compression, packed, sizeBytes);
    } catch (error) {
      const what = `a chunk does not decompress (${(error as Error).message})`;
      const place = { unit: "byte", at: this.#chunkStart } as const;
      throw new CaptureError("CORRUPT", this.#source.file, what, place);
    }
  }

  offsetInFile(): number {
    return this.#chunkStart;
  }
}
