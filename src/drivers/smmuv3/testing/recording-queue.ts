/**
 * A command queue without an SMMU, for tests of what is sent to whom, when, and what is waited
 * for: each list of commands is logged, and its CMD_SYNC takes as long as the test says.
 */

import { COMMAND_WORDS, type Command, decodeCommand } from "#arch/smmuv3";
import type { Cpu, Routine } from "#machine";
import { type CommandBatch, CommandBatches } from "../command-queue/command-batch.js";
import type { CommandQueue, SyncTicket } from "../command-queue/command-queue.js";
import type { SmmuInstance } from "../invalidation/invalidation.js";

export interface LoggedList {
  readonly cpuId: number;
  readonly commands: readonly Command[];
  /** There is a CMD_SYNC behind it. */
  readonly sync: boolean;
  readonly startNs: number;
  /** Undefined while nobody has waited for it to the end. */
  endNs: number | undefined;
}

export class RecordingQueue implements CommandQueue {
  readonly ring = 0;
  readonly sizeLg2 = 7;
  readonly lists: LoggedList[] = [];
  readonly #name: string;
  readonly #events: string[];
  readonly #syncNs: (cpu: Cpu) => number;

  constructor(name: string, events: string[], syncNs: (cpu: Cpu) => number) {
    this.#name = name;
    this.#events = events;
    this.#syncNs = syncNs;
  }

  *issue(cpu: Cpu, batch: CommandBatch, sync: boolean): Routine<boolean> {
    this.#events.push(`${this.#name} issue`);
    const list = this.#log(cpu, batch, sync);
    if (sync) yield* this.#complete(cpu, list);
    return true;
  }

  *submit(cpu: Cpu, batch: CommandBatch): Routine<SyncTicket> {
    this.#events.push(`${this.#name} submit`);
    this.#log(cpu, batch, true);
    return this.lists.length - 1;
  }

  *wait(cpu: Cpu, _batch: CommandBatch, ticket: SyncTicket): Routine<boolean> {
    this.#events.push(`${this.#name} wait`);
    yield* this.#complete(cpu, this.lists[ticket]);
    return true;
  }

  #log(cpu: Cpu, batch: CommandBatch, sync: boolean): LoggedList {
    const commands = Array.from({ length: batch.count }, (_, index) =>
      decodeCommand(batch.words, index * COMMAND_WORDS),
    );
    const list = { cpuId: cpu.id, commands, sync, startNs: cpu.now(), endNs: undefined };
    this.lists.push(list);
    batch.count = 0;
    return list;
  }

  *#complete(cpu: Cpu, list: LoggedList): Routine {
    const syncNs = this.#syncNs(cpu);
    if (syncNs > 0) yield* cpu.delay(syncNs);
    list.endNs = cpu.now();
  }
}

export interface RecordedInstance extends SmmuInstance {
  readonly queue: RecordingQueue;
}

/** An instance with such a queue, and with range commands. */
export function recordedInstance(
  index: number,
  events: string[] = [],
  syncNs: (cpu: Cpu) => number = () => 0,
): RecordedInstance {
  const name = `smmu${index}`;
  return {
    index,
    name,
    queue: new RecordingQueue(name, events, syncNs),
    batches: new CommandBatches(),
    forceSync: false,
    rangeInvalidation: true,
    e2h: false,
    isRemoved: false,
  };
}
