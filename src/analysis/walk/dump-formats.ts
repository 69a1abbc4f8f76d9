/**
 * What a dump's first bytes say: ELF cores, whose segments name physical addresses, and formats
 * that have to be converted first. Anything else is raw memory.
 */

import { InputError } from "../errors.js";

/** Memory at `address` lies in the file at `offset`. */
export interface FileSegment {
  readonly address: number;
  readonly offset: number;
  readonly bytes: number;
}

type Read = (target: Buffer, position: number) => number;

/** ELF-64: header and program header (System V gABI, chapter 5). */
const PROGRAM_HEADER_BYTES = 56;
const PT_LOAD = 1;
const EM_AARCH64 = 183;
/** e_phnum when the real number is elsewhere. */
const PN_XNUM = 0xffff;

/** A format that is no memory as it stands, with what to do; undefined when it may be. */
export function foreignFormat(head: Buffer): string | undefined {
  const text = head.toString("latin1");
  if (text.startsWith("KDUMP   ")) {
    return "a kdump-compressed dump; make an ELF core of it with `makedumpfile -E` or crash";
  }
  if (text.startsWith("makedumpfile")) {
    return "a flattened makedumpfile stream; rearrange it with `makedumpfile -R`";
  }
  if (text.startsWith("EMiL")) return "a LiME dump; record it with format=raw";
  return undefined;
}

/** Segments of an ELF core by physical address; undefined when it is no ELF file. */
export function elfSegments(
  file: string,
  head: Buffer,
  sizeBytes: number,
  read: Read,
): FileSegment[] | undefined {
  if (head.toString("latin1", 0, 4) !== "\x7fELF") return undefined;
  if (head[4] !== 2 || head[5] !== 1) {
    throw new InputError(`${file}: the ELF core is not 64-bit little-endian; dump it as raw RAM`);
  }
  const machine = head.readUInt16LE(18);
  if (machine !== EM_AARCH64) {
    throw new InputError(
      `${file}: an ELF core of machine ${machine}, not of arm64; check the file`,
    );
  }
  const count = head.readUInt16LE(56);
  const entryBytes = head.readUInt16LE(54);
  if (count === PN_XNUM || entryBytes < PROGRAM_HEADER_BYTES) {
    throw new InputError(
      `${file}: byte 0x36: program headers of no known shape; dump it as raw RAM`,
    );
  }
  const table = Number(head.readBigUInt64LE(32));
  const segments: FileSegment[] = [];
  const header = Buffer.alloc(PROGRAM_HEADER_BYTES);
  for (let index = 0; index < count; index++) {
    const at = table + index * entryBytes;
    if (at + PROGRAM_HEADER_BYTES > sizeBytes || read(header, at) < PROGRAM_HEADER_BYTES) {
      const where = `byte 0x${at.toString(16)}`;
      throw new InputError(`${file}: ${where}: the program headers end too early; copy it again`);
    }
    if (header.readUInt32LE(0) !== PT_LOAD) continue;
    const offset = Number(header.readBigUInt64LE(8));
    const address = Number(header.readBigUInt64LE(24));
    // What is missing at the end of a truncated file is not in the dump.
    const bytes = Math.min(Number(header.readBigUInt64LE(32)), sizeBytes - offset);
    if (bytes > 0 && address + bytes <= 2 ** 52) segments.push({ address, offset, bytes });
  }
  if (segments.length === 0) {
    throw new InputError(`${file}: the ELF core has no memory in it; dump it again`);
  }
  return withoutOverlaps(segments);
}

/** In ascending order; of what overlaps, the lower segment's content counts. */
function withoutOverlaps(segments: readonly FileSegment[]): FileSegment[] {
  const sorted = [...segments].sort((a, b) => a.address - b.address);
  const kept: FileSegment[] = [];
  let next = 0;
  for (const { address, offset, bytes } of sorted) {
    const skip = Math.max(0, next - address);
    if (skip >= bytes) continue;
    kept.push({ address: address + skip, offset: offset + skip, bytes: bytes - skip });
    next = address + bytes;
  }
  return kept;
}
