/**
 * Numbers for what agents touch: a cell, 8 aligned bytes of memory, or an abstract thing such
 * as a CPU's interrupt state. Two accesses depend on each other only if their locations are the
 * same number.
 *
 * Numbers are given in the order of first touch, anew in each execution. They are hence the
 * same for all executions along what these have in common, which is all that a search may
 * rely on (see `Footprint`).
 */

import type { Cell } from "../cell.js";
import { FRAME_BYTES, type PhysicalMemory } from "../memory.js";

export const GRANULE_BYTES = 8;
const GRANULES_PER_FRAME = FRAME_BYTES / GRANULE_BYTES;

/** The numbers of one frame's granules; -1 where none was given. */
interface FrameNumbers {
  readonly frameNumber: number;
  readonly numbers: Int32Array;
  /** Stands for the frame as a whole once a large block was written to or read from it. */
  readonly whole: Thing;
}

export class Locations {
  /** How many numbers were given in this execution. */
  count = 0;
  /** What has which number: a cell, the address of a granule, or the name of a thing. */
  readonly #touched: (Cell | number | Thing)[] = [];
  readonly #frames = new Map<number, FrameNumbers>();
  #lastFrame: FrameNumbers = newFrame(-1, 0);
  /** Whether any frame was touched as a whole. */
  #anyFilled = false;

  /** Forgets all numbers: a new execution begins. */
  reset(): void {
    const touched = this.#touched;
    for (let index = 0; index < this.count; index++) {
      const what = touched[index];
      if (typeof what === "number") this.#forgetGranule(what);
      else what.location = -1;
    }
    this.count = 0;
    this.#anyFilled = false;
  }

  ofCell(cell: Cell): number {
    const known = cell.location;
    if (known >= 0) return known;
    this.#touched[this.count] = cell;
    cell.location = this.count;
    return this.count++;
  }

  ofThing(thing: Thing): number {
    if (thing.location >= 0) return thing.location;
    this.#touched[this.count] = thing;
    thing.location = this.count;
    return this.count++;
  }

  /** The granule of 8 bytes that `address` lies in. */
  ofMemory(address: number): number {
    const { numbers } = this.#frameOf(address);
    const index = (address & (FRAME_BYTES - 1)) >>> 3;
    const known = numbers[index];
    if (known >= 0) return known;
    this.#touched[this.count] = address - (address & (GRANULE_BYTES - 1));
    numbers[index] = this.count;
    return this.count++;
  }

  /** The number of the frame as a whole, which `address` lies in; -1 if it was never so touched. */
  fillOf(address: number): number {
    return this.#anyFilled ? this.#frameOf(address).whole.location : -1;
  }

  /** As `fillOf`, for a block that touches the frame as a whole now. */
  markFilled(address: number): number {
    this.#anyFilled = true;
    return this.ofThing(this.#frameOf(address).whole);
  }

  /** Calls `visit` with the address of each granule of a frame that has a number. */
  known(address: number, visit: (granule: number) => void): void {
    const { numbers } = this.#frameOf(address);
    const base = address - (address & (FRAME_BYTES - 1));
    for (let index = 0; index < GRANULES_PER_FRAME; index++) {
      if (numbers[index] >= 0) visit(base + index * GRANULE_BYTES);
    }
  }

  /** What to call a location in a report. */
  nameOf(location: number): string {
    const what = this.#touched[location];
    if (what === undefined) return `location ${location}`;
    return typeof what === "number" ? `memory 0x${what.toString(16)}` : what.name;
  }

  /** What a location holds now, for people; a granule with its high half first. */
  valueOf(location: number, memory: PhysicalMemory): string {
    const what = this.#touched[location];
    if (what === undefined) return "";
    if (typeof what !== "number") return what instanceof Thing ? "" : shown(what.value);
    const [hi, lo] = [memory.read32(what + 4), memory.read32(what)];
    return hi === 0 ? shown(lo) : `0x${hi.toString(16)}:${lo.toString(16).padStart(8, "0")}`;
  }

  #forgetGranule(address: number): void {
    this.#frameOf(address).numbers[(address & (FRAME_BYTES - 1)) >>> 3] = -1;
  }

  #frameOf(address: number): FrameNumbers {
    const frameNumber = Math.floor(address / FRAME_BYTES);
    if (this.#lastFrame.frameNumber === frameNumber) return this.#lastFrame;
    let frame = this.#frames.get(frameNumber);
    if (frame === undefined) {
      frame = newFrame(frameNumber, GRANULES_PER_FRAME);
      this.#frames.set(frameNumber, frame);
    }
    this.#lastFrame = frame;
    return frame;
  }
}

/** Small numbers as they are, others in hex. */
function shown(value: number): string {
  return value > 99 ? `0x${value.toString(16)}` : String(value);
}

/** Something that is touched and is neither a cell nor memory. */
export class Thing {
  readonly name: string;
  location = -1;
  /** Counts the changes of a thing that nobody can look into. */
  version = 0;

  constructor(name: string) {
    this.name = name;
  }
}

function newFrame(frameNumber: number, granules: number): FrameNumbers {
  const whole = new Thing(`frame 0x${frameNumber.toString(16)}`);
  return { frameNumber, numbers: new Int32Array(granules).fill(-1), whole };
}
