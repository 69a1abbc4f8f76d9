/**
 * The media: a number of units that each work on one block of a command at a time, and a
 * first-in first-out queue in front of all of them. Which unit holds which block of the
 * namespace is not modelled: the first that is free takes the next.
 */

import { assert, type Cell, wireCell } from "#machine";
import type { Command } from "./command.js";

/** What a unit works on at a time: what drives are specified and formatted for. */
export const MEDIA_BLOCK_BYTES = 4096;

/** One unit; its agent waits on `wake` when there is nothing to do. */
export class MediaUnit {
  readonly wake: Cell;
  /** When it is done with its last block: data may still be on its way. */
  freeNs = 0;
  /** Part of the command that `Media.take` returned last. */
  part = 0;

  constructor(name: string) {
    this.wake = wireCell(name);
  }
}

/** Above this the taken entries at the front of the queue are dropped. */
const COMPACT_AT = 1024;

export class Media {
  readonly units: readonly MediaUnit[];
  /** Units without work, the last to become so on top. */
  readonly idle: MediaUnit[] = [];
  /** Time that units were at work, all together. */
  busyNs = 0;
  #queue: (Command | undefined)[] = [];
  #head = 0;

  constructor(name: string, unitCount: number) {
    assert(unitCount >= 1, "media have a unit");
    this.units = Array.from({ length: unitCount }, (_, n) => new MediaUnit(`${name} unit ${n}`));
  }

  /** Splits a command into blocks, at least one, and queues them. */
  add(command: Command): void {
    command.parts = Math.max(1, Math.ceil(command.sizeBytes / MEDIA_BLOCK_BYTES));
    command.partsLeft = command.parts;
    this.#queue.push(command);
  }

  /** The next part for a unit, or undefined; its number is left in `unit.part`. */
  take(unit: MediaUnit): Command | undefined {
    const command = this.#queue[this.#head];
    if (command === undefined) return undefined;
    unit.part = command.partsTaken++;
    if (command.partsTaken === command.parts) this.#drop();
    return command;
  }

  /** Forgets what waits. */
  clear(): void {
    this.#queue.length = 0;
    this.#head = 0;
  }

  #drop(): void {
    this.#queue[this.#head++] = undefined;
    if (this.#head === this.#queue.length) this.clear();
    else if (this.#head === COMPACT_AT) {
      this.#queue = this.#queue.slice(this.#head);
      this.#head = 0;
    }
  }
}
