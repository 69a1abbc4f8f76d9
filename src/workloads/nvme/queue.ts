/**
 * A submission queue and its completion queue: rings in coherent memory, with doorbells
 * (NVM Express Base Specification 2.0, 3.3.1).
 *
 * A pair is used by one CPU at a time. A command identifier is taken at `submit` and free
 * again when `finish` has returned its status: completions may come in any order. Commands in
 * flight are one fewer than entries, so that a submission never overtakes what the controller
 * has fetched, and no completion is ever without a place.
 */

import {
  COMMAND_BYTES,
  COMMAND_WORDS,
  COMPLETION_BYTES,
  CommandWord,
  CompletionOffset,
  commandIdOf,
  completionDoorbell,
  phaseOf,
  statusFieldOf,
  submissionDoorbell,
} from "#arch/nvme";
import { Attribute, allocCoherent, type DmaBuffer, type DmaDevice, freeCoherent } from "#dma";
import { assert, type Cpu, type PhysicalAddress, type Routine } from "#machine";
import { NvmeError } from "./errors.js";

/** What `finish` returns when time is up; a status field is never negative. */
export const TIMED_OUT = -1;
/** A ring of one place cannot hold anything (Base 3.3.1.2: at least two). */
const ENTRIES_MIN = 2;

export interface QueuePairOptions {
  readonly id: number;
  readonly entries: number;
  /** The controller's registers. */
  readonly registers: PhysicalAddress;
  readonly doorbellStrideBytes: number;
}

/** Values of `#states`. */
const State = { free: 0, submitted: 1, completed: 2 } as const;

export class QueuePair {
  readonly id: number;
  readonly entries: number;
  /** Where the caller builds the next command; all zero after each `submit`. */
  readonly command = new Uint32Array(COMMAND_WORDS);
  readonly submission: DmaBuffer;
  readonly completion: DmaBuffer;
  /** Word 0 of the completion that `finish` returned last. */
  result = 0;
  readonly #commandBytes = new Uint8Array(this.command.buffer);
  readonly #commands: PhysicalAddress;
  readonly #completions: PhysicalAddress;
  readonly #tailDoorbell: PhysicalAddress;
  readonly #headDoorbell: PhysicalAddress;
  readonly #freeIds: number[] = [];
  // By command identifier.
  readonly #states: Uint8Array;
  readonly #statuses: Uint16Array;
  readonly #results: Uint32Array;
  #tail = 0;
  #head = 0;
  /** The phase that a new completion at `#head` has; changes with each round (Base 3.3.3.2). */
  #phase = 1;

  constructor(options: QueuePairOptions, submission: DmaBuffer, completion: DmaBuffer) {
    const { id, entries, registers, doorbellStrideBytes } = options;
    this.id = id;
    this.entries = entries;
    this.submission = submission;
    this.completion = completion;
    this.#commands = submission.pieces[0].paddr;
    this.#completions = completion.pieces[0].paddr;
    this.#tailDoorbell = submissionDoorbell(registers, id, doorbellStrideBytes);
    this.#headDoorbell = completionDoorbell(registers, id, doorbellStrideBytes);
    for (let commandId = entries - 2; commandId >= 0; commandId--) this.#freeIds.push(commandId);
    this.#states = new Uint8Array(entries - 1);
    this.#statuses = new Uint16Array(entries - 1);
    this.#results = new Uint32Array(entries - 1);
  }

  /** Commands that can be in flight. */
  get depth(): number {
    return this.entries - 1;
  }

  /** Commands that were submitted and not finished. */
  get inFlight(): number {
    return this.depth - this.#freeIds.length;
  }

  /** Whether one has to be finished before the next can be submitted. */
  get isFull(): boolean {
    return this.#freeIds.length === 0;
  }

  /** Hands `command` to the controller; returns its identifier. */
  *submit(cpu: Cpu): Routine<number> {
    const commandId = this.#freeIds.pop();
    assert(commandId !== undefined, "a command is submitted to a queue that is not full");
    this.#states[commandId] = State.submitted;
    this.command[CommandWord.head] |= commandId << 16;
    yield* cpu.writeBlock(this.#commands + this.#tail * COMMAND_BYTES, this.#commandBytes);
    this.command.fill(0);
    this.#tail = (this.#tail + 1) % this.entries;
    // The controller must not fetch an entry before it is whole.
    yield* cpu.fence("device-write");
    yield* cpu.writeRegister32(this.#tailDoorbell, this.#tail);
    return commandId;
  }

  /**
   * Waits until a command has completed and returns its status field, 0 for success; or
   * `TIMED_OUT`, and the command is still in flight.
   */
  *finish(cpu: Cpu, commandId: number, timeoutNs: number): Routine<number> {
    assert(this.#states[commandId] !== State.free, "who finishes a command submitted it");
    const lastNs = cpu.now() + timeoutNs;
    while (this.#states[commandId] !== State.completed) {
      const leftNs = Math.max(0, lastNs - cpu.now());
      if (!(yield* this.#takeCompletion(cpu, leftNs))) return TIMED_OUT;
    }
    this.#states[commandId] = State.free;
    this.#freeIds.push(commandId);
    this.result = this.#results[commandId];
    return this.#statuses[commandId];
  }

  /** Takes the next completion, whichever command's it is; returns false when time is up. */
  *#takeCompletion(cpu: Cpu, timeoutNs: number): Routine<boolean> {
    const entry = this.#completions + this.#head * COMPLETION_BYTES;
    const isNew = this.#phase === 1 ? hasPhase1 : hasPhase0;
    const address = entry + CompletionOffset.status;
    const word = yield* cpu.waitUntilMemory32(address, isNew, timeoutNs);
    if (!isNew(word)) return false;
    // The phase was written last: the rest is read after it.
    yield* cpu.fence("read");
    const result = yield* cpu.read32(entry + CompletionOffset.result);
    const commandId = commandIdOf(word);
    if (this.#states[commandId] !== State.submitted) throw this.#badCompletion(commandId);
    this.#states[commandId] = State.completed;
    this.#statuses[commandId] = statusFieldOf(word);
    this.#results[commandId] = result;
    this.#head++;
    if (this.#head === this.entries) {
      this.#head = 0;
      this.#phase ^= 1;
    }
    yield* cpu.writeRegister32(this.#headDoorbell, this.#head);
    return true;
  }

  #badCompletion(commandId: number): NvmeError {
    return new NvmeError(
      "BAD_COMPLETION",
      `queue ${this.id} has a completion at place ${this.#head} for command ${commandId}, ` +
        "which is not in flight; reset the controller",
    );
  }
}

/** A pair with memory for its rings. The controller does not know it yet. */
export function* allocateQueuePair(
  cpu: Cpu,
  device: DmaDevice,
  options: QueuePairOptions,
): Routine<QueuePair> {
  const { entries } = options;
  assert(entries >= ENTRIES_MIN, "a queue has two entries at least");
  const submission = yield* allocateRing(cpu, device, entries * COMMAND_BYTES);
  let completion: DmaBuffer;
  try {
    completion = yield* allocateRing(cpu, device, entries * COMPLETION_BYTES);
  } catch (error) {
    yield* freeCoherent(cpu, device, submission);
    throw error;
  }
  return new QueuePair(options, submission, completion);
}

/** Frees the rings, which the controller has forgotten. */
export function* freeQueuePair(cpu: Cpu, device: DmaDevice, pair: QueuePair): Routine {
  yield* freeCoherent(cpu, device, pair.submission);
  yield* freeCoherent(cpu, device, pair.completion);
}

/** One piece of memory, so that an entry's place is an offset for the CPU, too. */
function* allocateRing(cpu: Cpu, device: DmaDevice, sizeBytes: number): Routine<DmaBuffer> {
  const buffer = yield* allocCoherent(cpu, device, sizeBytes, Attribute.forceContiguous);
  if (buffer !== undefined) return buffer;
  throw new NvmeError(
    "NO_MAPPING",
    `${device.name}: no memory or no address for a queue of ${sizeBytes} bytes; ` +
      "use fewer or shorter queues",
  );
}

function hasPhase1(word: number): boolean {
  return phaseOf(word) === 1;
}

function hasPhase0(word: number): boolean {
  return phaseOf(word) === 0;
}
