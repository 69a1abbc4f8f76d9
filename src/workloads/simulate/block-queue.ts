/**
 * A hardware queue as the kernel's NVMe driver uses it (drivers/nvme/host/pci.c): the CPUs of its
 * group submit under a lock, and completions are taken out by the interrupt on one of them.
 *
 * The queue owns tags and indices; requests are their jobs' and come back through `onComplete`.
 */

import {
  COMMAND_BYTES,
  COMPLETION_BYTES,
  CommandWord,
  CompletionOffset,
  commandIdOf,
  completionDoorbell,
  phaseOf,
  statusFieldOf,
  submissionDoorbell,
} from "#arch/nvme";
import type { DmaDevice } from "#dma";
import {
  assert,
  type Cpu,
  type Interrupt,
  type PhysicalAddress,
  type Routine,
  SpinLock,
} from "#machine";
import type { QueuePair } from "../nvme/queue.js";
import type { BlockRequest } from "./block-request.js";
import type { CpuAccounts } from "./cpu-accounts.js";

export interface BlockQueueOptions {
  readonly name: string;
  readonly device: DmaDevice;
  readonly registers: PhysicalAddress;
  readonly doorbellStrideBytes: number;
  /** CPU time per request: block layer and driver, without mapping. */
  readonly submitNs: number;
  readonly completeNs: number;
  /** The CPU that takes its interrupt. */
  readonly cpuId: number;
  readonly accounts: CpuAccounts;
  /** A request is back, on the interrupt's CPU. */
  readonly onComplete: (cpu: Cpu, request: BlockRequest) => void;
}

export class BlockQueue {
  readonly interrupt: Interrupt;
  /** Requests that completed with an error. */
  errors = 0;
  readonly #options: BlockQueueOptions;
  readonly #lock: SpinLock;
  readonly #entries: number;
  readonly #commands: PhysicalAddress;
  readonly #completions: PhysicalAddress;
  readonly #tailDoorbell: PhysicalAddress;
  readonly #headDoorbell: PhysicalAddress;
  readonly #freeTags: number[] = [];
  readonly #requests: (BlockRequest | undefined)[];
  #tail = 0;
  #head = 0;
  #phase = 1;

  constructor(pair: QueuePair, options: BlockQueueOptions) {
    const { name, registers, doorbellStrideBytes, cpuId } = options;
    this.#options = options;
    this.#lock = new SpinLock(`${name} lock`);
    this.#entries = pair.entries;
    this.#commands = pair.submission.pieces[0].paddr;
    this.#completions = pair.completion.pieces[0].paddr;
    this.#tailDoorbell = submissionDoorbell(registers, pair.id, doorbellStrideBytes);
    this.#headDoorbell = completionDoorbell(registers, pair.id, doorbellStrideBytes);
    this.#requests = new Array(pair.entries).fill(undefined);
    // One fewer than entries: a full ring looks like an empty one.
    for (let tag = pair.entries - 2; tag >= 0; tag--) this.#freeTags.push(tag);
    this.interrupt = { name: `${name} interrupt`, cpuId, handler: (cpu) => this.#handle(cpu) };
  }

  /** Whether a request has to complete before the next can be submitted. */
  get isFull(): boolean {
    return this.#freeTags.length === 0;
  }

  /** Maps a request and hands it to the device; returns whether it could be mapped. */
  *submit(cpu: Cpu, request: BlockRequest, isRead: boolean, block: number): Routine<boolean> {
    const { device, submitNs, accounts } = this.#options;
    const tag = this.#freeTags.pop();
    assert(tag !== undefined, "a request is submitted to a queue that has a tag for it");
    cpu.workNs(submitNs);
    const startNs = accounts.beginMap(cpu);
    const isMapped = yield* request.prepare(cpu, device, isRead, block);
    accounts.endMap(cpu, startNs);
    if (!isMapped) {
      this.#freeTags.push(tag);
      return false;
    }
    request.tag = tag;
    request.command[CommandWord.head] |= tag << 16;
    this.#requests[tag] = request;
    yield* this.#lock.acquire(cpu);
    yield* cpu.writeBlock(this.#commands + this.#tail * COMMAND_BYTES, request.commandBytes);
    this.#tail = this.#tail + 1 === this.#entries ? 0 : this.#tail + 1;
    // The device must not fetch an entry before it is whole.
    yield* cpu.fence("device-write");
    yield* cpu.writeRegister32(this.#tailDoorbell, this.#tail);
    yield* this.#lock.release(cpu);
    request.submittedNs = cpu.now();
    return true;
  }

  /** The interrupt (kernel: nvme_irq()): takes out all there is, then says how far it came. */
  *#handle(cpu: Cpu): Routine {
    const { accounts } = this.#options;
    cpu.irqDisable();
    const begunNs = accounts.beginInterrupt(cpu);
    let taken = 0;
    for (;;) {
      const entry = this.#completions + this.#head * COMPLETION_BYTES;
      const word = yield* cpu.read32(entry + CompletionOffset.status);
      if (phaseOf(word) !== this.#phase) break;
      // The phase was written last: the rest is read after it.
      yield* cpu.fence("read");
      yield* this.#finish(cpu, word);
      taken++;
      this.#head++;
      if (this.#head === this.#entries) {
        this.#head = 0;
        this.#phase ^= 1;
      }
    }
    if (taken > 0) yield* cpu.writeRegister32(this.#headDoorbell, this.#head);
    accounts.endInterrupt(cpu, begunNs);
    cpu.irqEnable();
  }

  *#finish(cpu: Cpu, word: number): Routine {
    const { device, completeNs, accounts, onComplete } = this.#options;
    const tag = commandIdOf(word);
    const request = this.#requests[tag];
    assert(request !== undefined, "the device completes what it was given");
    this.#requests[tag] = undefined;
    if (statusFieldOf(word) !== 0) this.errors++;
    const startNs = accounts.beginUnmap(cpu);
    yield* request.release(cpu, device);
    accounts.endUnmap(cpu, startNs);
    cpu.workNs(completeNs);
    this.#freeTags.push(tag);
    onComplete(cpu, request);
  }
}
