/**
 * What the parts of the controller share: its settings, its queues, and what is under way.
 * `registers.ts` changes it when the host writes registers; the agents do the work.
 */

import { type Agent, type Cell, wireCell } from "#machine";
import type { DmaDevice } from "../dma-engine.js";
import type { Link } from "../link.js";
import { Command } from "./command.js";
import { Media } from "./media.js";
import type { NvmeOptions, NvmeTiming } from "./options.js";
import type { CompletionQueue, SubmissionQueue } from "./queues.js";
import { BlockStorage } from "./storage.js";

/** What the model has done so far. */
export interface NvmeStatistics {
  commands: number;
  /** Interrupt messages sent. */
  messages: number;
  /** Accesses to memory that the IOMMU or the bus aborted. */
  aborts: number;
  readBytes: number;
  writtenBytes: number;
  /** Time that accesses to data took to get through the IOMMU and into memory, all together. */
  translationNs: number;
  /** Time that the controller was busy with commands, one after the other. */
  controllerBusyNs: number;
}

/** An entry of the MSI-X table (PCI Local Bus 3.0, 6.8.2.6). */
export class MessageVector {
  readonly words = new Uint32Array(4);
  /** A message was due while it was masked. */
  isPending = false;

  get address(): number {
    return this.words[0] + this.words[1] * 2 ** 32;
  }

  get data(): number {
    return this.words[2];
  }

  get isMasked(): boolean {
    return (this.words[3] & 1) !== 0;
  }
}

export class ControllerState {
  readonly name: string;
  readonly dma: DmaDevice;
  readonly link: Link;
  readonly timing: NvmeTiming;
  readonly media: Media;
  readonly storage: BlockStorage | undefined;
  readonly blockBytes: number;
  readonly blockCount: number;
  readonly queuePairsMax: number;
  readonly queueEntriesMax: number;
  readonly vectors: readonly MessageVector[];
  /** By id. */
  readonly submissionQueues: (SubmissionQueue | undefined)[] = [];
  readonly completionQueues: (CompletionQueue | undefined)[] = [];
  /** Queues with entries to fetch, in the order of their turns. */
  readonly ready: SubmissionQueue[] = [];
  /** Completion queues that the host is to be told about. */
  readonly toAnnounce: CompletionQueue[] = [];
  /** Rung when there is something to fetch or to announce. */
  readonly doorbell: Cell;
  /** Changes when a queue that is being deleted has nothing in flight any more. */
  readonly drained: Cell;
  readonly statistics: NvmeStatistics = {
    commands: 0,
    messages: 0,
    aborts: 0,
    readBytes: 0,
    writtenBytes: 0,
    translationNs: 0,
    controllerBusyNs: 0,
  };
  isEnabled = false;
  isFatal = false;
  /** Goes up when the controller is enabled or disabled: what began before is dropped. */
  generation = 0;
  /** Accesses to memory that are under way. */
  active = 0;
  /** Interrupt coalescing (feature 08h); a threshold of 1 is none. */
  coalesceCount: number;
  coalesceNs: number;
  readonly #spare: Command[] = [];

  constructor(options: NvmeOptions) {
    this.name = options.name;
    this.dma = options.dma;
    this.link = options.link;
    this.timing = options.timing;
    this.media = new Media(options.name, options.timing.units);
    this.storage = options.storesData ? new BlockStorage() : undefined;
    this.blockBytes = options.blockBytes;
    this.blockCount = options.blockCount;
    this.queuePairsMax = options.queuePairsMax;
    this.queueEntriesMax = options.queueEntriesMax;
    this.coalesceCount = options.interruptCount;
    this.coalesceNs = options.interruptDelayNs;
    // One for each I/O queue pair, and one for the admin queue.
    this.vectors = Array.from({ length: options.queuePairsMax + 1 }, () => new MessageVector());
    this.doorbell = wireCell(`${options.name} doorbell`);
    this.drained = wireCell(`${options.name} drained`);
  }

  takeCommand(): Command {
    return this.#spare.pop() ?? new Command();
  }

  /** The command is over; `by` is whoever ended it. */
  giveCommand(by: Agent, command: Command): void {
    const { queue } = command;
    queue.inFlight--;
    if (queue.isDeleted && queue.inFlight === 0) by.poke(this.drained, this.drained.value + 1);
    command.clear();
    this.#spare.push(command);
  }

  ring(by: Agent): void {
    by.poke(this.doorbell, 1);
  }

  /** A queue has entries to fetch: it gets its turn. */
  list(queue: SubmissionQueue, by: Agent): void {
    if (!queue.isListed) {
      queue.isListed = true;
      this.ready.push(queue);
    }
    this.ring(by);
  }

  /** Nothing but a reset helps any more (CSTS.CFS). */
  fail(): void {
    this.isFatal = true;
  }

  /** Forgets queues and work; agents find out by the generation. */
  forget(by: Agent): void {
    this.generation++;
    this.ready.length = 0;
    this.toAnnounce.length = 0;
    this.media.clear();
    for (const queue of this.completionQueues) {
      // Whoever waits for a place looks at the generation.
      if (queue !== undefined) by.poke(queue.space, queue.space.value + 1);
    }
    by.poke(this.drained, this.drained.value + 1);
    this.submissionQueues.length = 0;
    this.completionQueues.length = 0;
  }
}
