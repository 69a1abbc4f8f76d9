/**
 * The controller's side of its queues: where the rings lie, and how far both sides are.
 * Plain data of the controller; doorbells reach it through `registers.ts`.
 */

import { COMPLETION_BYTES } from "#arch/nvme";
import { type Cell, type Iova, wireCell } from "#machine";

export class SubmissionQueue {
  readonly id: number;
  readonly base: Iova;
  readonly entries: number;
  readonly completions: CompletionQueue;
  /** Next entry to fetch, and the one behind the last that the host has written. */
  head = 0;
  tail = 0;
  /** It waits for its turn in the arbiter. */
  isListed = false;
  /** Commands fetched and not completed. */
  inFlight = 0;
  isDeleted = false;

  constructor(id: number, base: Iova, entries: number, completions: CompletionQueue) {
    this.id = id;
    this.base = base;
    this.entries = entries;
    this.completions = completions;
    completions.submitters++;
  }

  get waiting(): number {
    return (this.tail - this.head + this.entries) % this.entries;
  }
}

/** A completion on its way into the ring. */
export interface Completion {
  commandId: number;
  status: number;
  result: number;
  queue: SubmissionQueue;
}

/** A completion queue that never interrupts has this vector. */
export const NO_VECTOR = -1;

export class CompletionQueue {
  readonly id: number;
  readonly base: Iova;
  readonly entries: number;
  readonly vector: number;
  /** Submission queues that complete to it. */
  submitters = 0;
  // Counted from the start, so that order is plain comparison.
  posted = 0;
  consumed = 0;
  /** Up to where a message has told the host of completions. */
  announced = 0;
  /** When what is posted and not announced is to be, infinity when nothing is. */
  announceAtNs = Number.POSITIVE_INFINITY;
  /** Somebody is writing completions; others add theirs to `pending`. */
  isPosting = false;
  readonly pending: Completion[] = [];
  /** The entry that is being written. */
  readonly words = new Uint32Array(COMPLETION_BYTES / 4);
  readonly bytes = new Uint8Array(this.words.buffer);
  /** Changes when the host has taken completions out. */
  readonly space: Cell;

  constructor(id: number, base: Iova, entries: number, vector: number) {
    this.id = id;
    this.base = base;
    this.entries = entries;
    this.vector = vector;
    this.space = wireCell(`NVMe completion queue ${id}`);
  }

  /** One place stays free, to tell full from empty (Base 3.3.1.5). */
  get isFull(): boolean {
    return this.posted - this.consumed === this.entries - 1;
  }

  /** The host has written its head doorbell; a value that is no place of the ring is refused. */
  moveHead(head: number): boolean {
    if (head >= this.entries) return false;
    const taken = (head - (this.consumed % this.entries) + this.entries) % this.entries;
    if (this.consumed + taken > this.posted) return false;
    this.consumed += taken;
    return true;
  }
}
