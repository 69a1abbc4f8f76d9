/** A file that a person wrote or a command saved: all of it, in bounded memory. */

import { closeSync, openSync, readSync } from "node:fs";
import { UsageError } from "./errors.js";

/** Bytes that are read at a time. */
const CHUNK_BYTES = 2 ** 16;

/**
 * The text of a file, which may be a pipe (`<(...)` of a shell). What is longer than `bytesMax` is
 * refused, whatever length the system states: that of /dev/zero is 0. `remedy` ends the complaint.
 */
export function readSmallFile(path: string, bytesMax: number, remedy: string): string {
  try {
    const descriptor = openSync(path, "r");
    try {
      const bytes = readUpTo(descriptor, bytesMax + 1);
      if (bytes.length <= bytesMax) return bytes.toString("utf8");
    } finally {
      closeSync(descriptor);
    }
  } catch (error) {
    const why = (error as NodeJS.ErrnoException).code ?? String(error);
    throw new UsageError(`${path}: cannot be read (${why}); ${remedy}`);
  }
  throw new UsageError(`${path}: has more than ${bytesMax} bytes; ${remedy}`);
}

function readUpTo(descriptor: number, limitBytes: number): Buffer {
  const chunks: Buffer[] = [];
  for (let left = limitBytes; left > 0; ) {
    const chunk = Buffer.alloc(Math.min(left, CHUNK_BYTES));
    const readBytes = readSync(descriptor, chunk);
    if (readBytes === 0) break;
    chunks.push(chunk.subarray(0, readBytes));
    left -= readBytes;
  }
  return Buffer.concat(chunks);
}
