/**
 * Physical memory that hardware and software share: sparse, little-endian, byte-exact.
 *
 * Frames of 4 KiB come into being, zeroed, at the first write. A read of memory
 * that nobody wrote gives zeros and allocates nothing. Agents are the only users at
 * run time (they add cost and ordering); tools that inspect a dump may read directly.
 * An emulator that has RAM of its own lends it (`back`).
 */

import { assert, hex } from "./assert.js";
import type { PhysicalAddress } from "./units.js";

export const FRAME_BYTES = 4096;
export const FRAME_LG2 = 12;
export const LINE_BYTES = 64;
export const LINE_LG2 = 6;
export const LINES_PER_FRAME = FRAME_BYTES / LINE_BYTES;
/** Commands, descriptors and table entries have no more. */
const SMALL_BYTES = 64;
const ZEROS = new Uint8Array(FRAME_BYTES);
/** Direct-mapped cache of frame look-ups; a power of two. */
const CACHE_SLOTS = 1024;

/** One 4 KiB frame: the same bytes, as bytes, halves and words. */
export class Frame {
  readonly number: number;
  readonly bytes: Uint8Array;
  readonly words: Uint32Array;
  readonly halves: Uint16Array;
  /** Number of its first line in the machine's coherence state, given at first touch; -1 before. */
  firstLineId = -1;

  /** Over `FRAME_BYTES` of `buffer` from `offset` on. */
  constructor(number: number, buffer: ArrayBufferLike, offset: number) {
    this.number = number;
    this.bytes = new Uint8Array(buffer, offset, FRAME_BYTES);
    this.words = new Uint32Array(buffer, offset, FRAME_BYTES / 4);
    this.halves = new Uint16Array(buffer, offset, FRAME_BYTES / 2);
  }
}

/** A range that somebody else's bytes lie behind; frames from `first` to `last`. */
interface Backing {
  readonly first: number;
  readonly last: number;
  readonly bytes: Uint8Array;
}

export class PhysicalMemory {
  readonly #frames = new Map<number, Frame>();
  readonly #cache: (Frame | undefined)[] = new Array(CACHE_SLOTS).fill(undefined);
  readonly #backings: Backing[] = [];
  /** High half of the last `read64`. */
  hi = 0;

  /** Number of frames that hold data. */
  get frameCount(): number {
    return this.#frames.size;
  }

  /**
   * Puts the caller's bytes at `base`, where nothing may have been written yet: both see each
   * other's writes from then on. Whole frames, 4 KiB aligned in memory and 4 bytes aligned in their
   * buffer, which must not be detached.
   */
  back(base: PhysicalAddress, bytes: Uint8Array): void {
    const first = frameOf(base);
    const last = first + frameOf(bytes.length) - 1;
    assert(
      offsetOf(base) === 0 && offsetOf(bytes.length) === 0 && bytes.byteOffset % 4 === 0,
      `memory is backed in whole frames: ${bytes.length} bytes at ${hex(base)}`,
    );
    const isFree =
      this.#backings.every((other) => last < other.first || first > other.last) &&
      [...this.#frames.keys()].every((number) => number < first || number > last);
    assert(isFree, `memory is backed before it is written, and once: ${hex(base)}`);
    this.#backings.push({ first, last, bytes });
  }

  /** Zeros all that was written. The frames stay, so that they need not be made again. */
  clear(): void {
    assert(this.#backings.length === 0, "memory of somebody else's is not cleared");
    for (const frame of this.#frames.values()) frame.bytes.fill(0);
  }

  /** The frame with this number, or undefined when nobody wrote to it. */
  findFrame(frameNumber: number): Frame | undefined {
    const slot = slotOf(frameNumber);
    const cached = this.#cache[slot];
    if (cached !== undefined && cached.number === frameNumber) return cached;
    const frame = this.#frames.get(frameNumber) ?? this.#lent(frameNumber);
    if (frame !== undefined) this.#cache[slot] = frame;
    return frame;
  }

  /** A frame over bytes of somebody else's, made when it is first looked at. */
  #lent(frameNumber: number): Frame | undefined {
    for (const { first, last, bytes } of this.#backings) {
      if (frameNumber < first || frameNumber > last) continue;
      const offset = bytes.byteOffset + (frameNumber - first) * FRAME_BYTES;
      const frame = new Frame(frameNumber, bytes.buffer, offset);
      this.#frames.set(frameNumber, frame);
      return frame;
    }
    return undefined;
  }

  /** The frame with this number, made if it does not exist. */
  frame(frameNumber: number): Frame {
    const found = this.findFrame(frameNumber);
    if (found !== undefined) return found;
    assert(
      frameNumber >= 0 && frameNumber < 2 ** (53 - FRAME_LG2),
      `physical addresses lie in [0, 2^53): frame ${hex(frameNumber)}`,
    );
    const frame = new Frame(frameNumber, new ArrayBuffer(FRAME_BYTES), 0);
    this.#frames.set(frameNumber, frame);
    this.#cache[slotOf(frameNumber)] = frame;
    return frame;
  }

  read8(address: PhysicalAddress): number {
    const frame = this.findFrame(frameOf(address));
    return frame === undefined ? 0 : frame.bytes[offsetOf(address)];
  }

  read16(address: PhysicalAddress): number {
    assertAligned(address, 2);
    const frame = this.findFrame(frameOf(address));
    return frame === undefined ? 0 : frame.halves[offsetOf(address) >> 1];
  }

  read32(address: PhysicalAddress): number {
    assertAligned(address, 4);
    const frame = this.findFrame(frameOf(address));
    return frame === undefined ? 0 : frame.words[offsetOf(address) >> 2];
  }

  /** Returns the low half; the high half is in `hi`. */
  read64(address: PhysicalAddress): number {
    assertAligned(address, 8);
    const frame = this.findFrame(frameOf(address));
    if (frame === undefined) {
      this.hi = 0;
      return 0;
    }
    const word = offsetOf(address) >> 2;
    this.hi = frame.words[word + 1];
    return frame.words[word];
  }

  write8(address: PhysicalAddress, value: number): void {
    this.frame(frameOf(address)).bytes[offsetOf(address)] = value;
  }

  write16(address: PhysicalAddress, value: number): void {
    assertAligned(address, 2);
    this.frame(frameOf(address)).halves[offsetOf(address) >> 1] = value;
  }

  write32(address: PhysicalAddress, value: number): void {
    assertAligned(address, 4);
    this.frame(frameOf(address)).words[offsetOf(address) >> 2] = value;
  }

  write64(address: PhysicalAddress, lo: number, hi: number): void {
    assertAligned(address, 8);
    const words = this.frame(frameOf(address)).words;
    const word = offsetOf(address) >> 2;
    words[word] = lo;
    words[word + 1] = hi;
  }

  /** Fills `target` from memory at `address`; holes read as zeros. */
  readBlock(address: PhysicalAddress, target: Uint8Array): void {
    if (target.length <= SMALL_BYTES && offsetOf(address) + target.length <= FRAME_BYTES) {
      this.#readSmall(address, target);
      return;
    }
    for (let done = 0; done < target.length; ) {
      const at = address + done;
      const offset = offsetOf(at);
      const count = Math.min(FRAME_BYTES - offset, target.length - done);
      const frame = this.findFrame(frameOf(at));
      if (frame === undefined) target.fill(0, done, done + count);
      else target.set(frame.bytes.subarray(offset, offset + count), done);
      done += count;
    }
  }

  /** Within one frame, byte by byte: quicker than to make a view of it. */
  #readSmall(address: PhysicalAddress, target: Uint8Array): void {
    const bytes = this.findFrame(frameOf(address))?.bytes ?? ZEROS;
    const offset = offsetOf(address);
    for (let n = 0; n < target.length; n++) target[n] = bytes[offset + n];
  }

  writeBlock(address: PhysicalAddress, source: Uint8Array): void {
    for (let done = 0; done < source.length; ) {
      const at = address + done;
      const offset = offsetOf(at);
      const count = Math.min(FRAME_BYTES - offset, source.length - done);
      this.frame(frameOf(at)).bytes.set(source.subarray(done, done + count), offset);
      done += count;
    }
  }

  fill(address: PhysicalAddress, sizeBytes: number, byte: number): void {
    for (let done = 0; done < sizeBytes; ) {
      const at = address + done;
      const offset = offsetOf(at);
      const count = Math.min(FRAME_BYTES - offset, sizeBytes - done);
      const frame = byte === 0 ? this.findFrame(frameOf(at)) : this.frame(frameOf(at));
      frame?.bytes.fill(byte, offset, offset + count);
      done += count;
    }
  }
}

export function frameOf(address: PhysicalAddress): number {
  return Math.floor(address / FRAME_BYTES);
}

function slotOf(frameNumber: number): number {
  // As in `offsetOf`; `%` of numbers beyond 32 bits is a slow library call.
  return frameNumber & (CACHE_SLOTS - 1);
}

function offsetOf(address: PhysicalAddress): number {
  // The low 12 bits survive the conversion to 32 bits that `&` makes.
  return address & (FRAME_BYTES - 1);
}

function assertAligned(address: PhysicalAddress, sizeBytes: number): void {
  if ((address & (sizeBytes - 1)) !== 0) {
    assert(false, `a ${sizeBytes}-byte access is naturally aligned: ${hex(address)}`);
  }
}
