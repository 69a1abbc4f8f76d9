/**
 * Decompression: of one block of known size (sections and chunks of a trace.dat), and of a whole
 * stream (a capture that somebody compressed). zstd comes from node:zlib where Node has it and
 * from fzstd where not. Owns nothing.
 */

import { Transform, type TransformCallback } from "node:stream";
import * as zlib from "node:zlib";
import { Decompress } from "fzstd";

export type BlockCompression = "none" | "zstd" | "zlib";

interface ZstdOfNode {
  readonly zstdDecompressSync?: (data: Uint8Array, options: object) => Buffer;
  readonly createZstdDecompress?: (options: object) => Transform;
}

/** node:zlib has zstd since Node 22.15; its types in this project are those of Node 20. */
const zstd: ZstdOfNode = zlib as ZstdOfNode;

/** What `zstd -d` accepts without being told otherwise (ZSTD_WINDOWLOG_LIMIT_DEFAULT). */
const WINDOW_LG2_MAX = 27;

/**
 * One block, whose size the capture gives. Throws whatever error the library throws if the data
 * is damaged or its size another one; the caller knows the place.
 */
export function inflateBlock(
  compression: BlockCompression,
  data: Uint8Array,
  sizeBytes: number,
): Buffer {
  const content = inflate(compression, data, sizeBytes);
  if (content.length !== sizeBytes) {
    throw new Error(`${content.length} bytes came out where ${sizeBytes} were announced`);
  }
  return content;
}

function inflate(compression: BlockCompression, data: Uint8Array, sizeBytes: number): Buffer {
  // An output limit of 0 is refused by node:zlib, hence at least 1.
  const limit = { maxOutputLength: Math.max(sizeBytes, 1) };
  switch (compression) {
    case "none":
      return Buffer.from(data);
    case "zlib":
      return zlib.inflateSync(data, limit);
    case "zstd":
      return zstd.zstdDecompressSync !== undefined
        ? zstd.zstdDecompressSync(data, limit)
        : inflateWithFzstd(data, sizeBytes);
  }
}

/**
 * By the streaming decoder, since the other one says neither how much it wrote nor that its
 * buffer was too small.
 */
function inflateWithFzstd(data: Uint8Array, sizeBytes: number): Buffer {
  checkWindow(data);
  const content = Buffer.alloc(sizeBytes);
  let done = 0;
  const decoder = new Decompress((part) => {
    if (part.length > sizeBytes - done) throw new Error("more data than announced");
    content.set(part, done);
    done += part.length;
  });
  decoder.push(data, true);
  return content.subarray(0, done);
}

/** A stream that undoes gzip or zstd. It fails on damaged or unfinished data. */
export function inflateStream(compression: "gzip" | "zstd"): Transform {
  if (compression === "gzip") return zlib.createGunzip();
  if (zstd.createZstdDecompress !== undefined) return zstd.createZstdDecompress({});
  return fzstdStream();
}

function fzstdStream(): Transform {
  let output: Transform | undefined;
  let head: Buffer | undefined = Buffer.alloc(0);
  const decoder = new Decompress((part) => {
    if (part.length > 0) output?.push(part);
  });
  const step = (done: TransformCallback, act: () => void): void => {
    try {
      act();
      done();
    } catch (error) {
      done(error as Error);
    }
  };
  output = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      step(done, () => {
        if (head !== undefined) {
          head = Buffer.concat([head, chunk]);
          if (head.length < FRAME_HEADER_BYTES_MAX) return;
          checkWindow(head);
          decoder.push(head);
          head = undefined;
          return;
        }
        decoder.push(chunk);
      });
    },
    flush(done) {
      step(done, () => {
        if (head !== undefined) {
          checkWindow(head);
          decoder.push(head);
        }
        decoder.push(new Uint8Array(0), true);
      });
    },
  });
  return output;
}

/** RFC 8878 section 3.1.1.1: magic 4, descriptor 1, window 1, dictionary 4, content size 8. */
const FRAME_HEADER_BYTES_MAX = 18;

/** Refuse a frame that asks for a larger window than `zstd -d` would give it. */
function checkWindow(head: Uint8Array): void {
  if (head.length < 6) throw new Error("unexpected EOF");
  const descriptor = head[4];
  const singleSegment = (descriptor & 0x20) !== 0;
  let windowLg2 = (head[5] >> 3) + 10;
  if (singleSegment) {
    // Without a window its size is that of the content: 1, 2, 4 or 8 bytes behind the dictionary.
    const dictionaryBytes = [0, 1, 2, 4][descriptor & 3];
    const contentBytes = [1, 2, 4, 8][descriptor >> 6];
    windowLg2 = 0;
    for (let index = 0; index < contentBytes; index += 1) {
      const byte = head[5 + dictionaryBytes + index] ?? 0;
      if (byte !== 0) windowLg2 = 8 * index + (31 - Math.clz32(byte));
    }
  }
  if (windowLg2 >= WINDOW_LG2_MAX) throw new Error("it needs a window of 128 MiB or more");
}
