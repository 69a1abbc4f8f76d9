/**
 * Commands that one CPU collects before it issues them together, and the scratch state
 * of issuing them, so that nothing is allocated per command.
 *
 * A `CommandBatch` belongs to one activity of one CPU: it is taken from `CommandBatches`
 * and given back when the commands were issued. An interrupt that comes in between takes
 * the next one (the kernel keeps its batch on the stack).
 */

import { COMMAND_WORDS, queueHasConsumed } from "#arch/smmuv3";
import { assert, type CellTest, type Cpu, type Step, Work } from "#machine";
import type { CommandQueue } from "./command-queue.js";
import { EventPoll, Poll } from "./poll.js";

/** Commands per batch: BITS_PER_LONG, as in the kernel (CMDQ_BATCH_ENTRIES). */
export const BATCH_COMMANDS = 64;
/** An activity nests at most in task, softirq, interrupt and NMI. */
const NESTING_MAX = 4;

export class CommandBatch {
  /** The commands, and behind them room for the CMD_SYNC that may follow. */
  readonly words = new Uint32Array((BATCH_COMMANDS + 1) * COMMAND_WORDS);
  count = 0;
  readonly poll = new Poll();
  readonly eventPoll = new EventPoll();
  /** Bits of the valid map that are waited for, as they must come to stand. */
  validMask = 0;
  validBits = 0;
  readonly isValid: CellTest = (word) => ((word ^ this.validBits) & this.validMask) === 0;
  /** Where the part of the queue starts that this CPU publishes. */
  ownedStart = 0;
  readonly isMyTurn: CellTest = (ownerProd) => ownerProd === this.ownedStart;
  /** Whether this CPU publishes what it reserves, and how many CMD_SYNCs are in that. */
  isOwner = false;
  gatheredSyncs = 0;
  /** The command that CONS is to pass, in a queue of that size. */
  awaitedProd = 0;
  sizeLg2 = 0;
  readonly isConsumed: CellTest = (cons) => queueHasConsumed(cons, this.awaitedProd, this.sizeLg2);
  /** Number of the CMD_SYNC that is waited for; numbers have 32 bits and wrap. */
  syncNumber = 0;
  readonly isSyncReached: CellTest = (reached) => ((reached - this.syncNumber) | 0) >= 0;

  /** Whether a command can be appended; some SMMUs must not be given 64 without a CMD_SYNC. */
  hasRoom(forceSync: boolean): boolean {
    return this.count < (forceSync ? BATCH_COMMANDS - 1 : BATCH_COMMANDS);
  }

  /** Word offset of a new command. The caller has made sure that there is room. */
  append(cpu: Cpu): number {
    assert(this.count < BATCH_COMMANDS, `a batch holds at most ${BATCH_COMMANDS} commands`);
    cpu.work(Work.command);
    return this.count++ * COMMAND_WORDS;
  }
}

/** Where commands go: what the users of batches need of an SMMU. */
export interface CommandSink {
  readonly queue: CommandQueue;
  readonly batches: CommandBatches;
  /** Erratum of the MMU-700: a CMD_SYNC at least after every 63 commands. */
  readonly forceSync: boolean;
}

/** Issues what a full batch holds. Whoever fills it on submits the rest with a CMD_SYNC for all. */
export function makeRoom(cpu: Cpu, batch: CommandBatch, sink: CommandSink): Step<boolean> {
  return sink.queue.issue(cpu, batch, sink.forceSync);
}

/** The batches of a machine's CPUs, made as they are first needed. */
export class CommandBatches {
  readonly #batches: CommandBatch[][] = [];
  readonly #depth: number[] = [];

  /** An empty batch for what this CPU does now. */
  take(cpu: Cpu): CommandBatch {
    const depth = this.#depth[cpu.id] ?? 0;
    assert(depth < NESTING_MAX, `a CPU has at most ${NESTING_MAX} batches under way`);
    this.#depth[cpu.id] = depth + 1;
    const batches = (this.#batches[cpu.id] ??= []);
    const batch = (batches[depth] ??= new CommandBatch());
    batch.count = 0;
    return batch;
  }

  /** Gives back the batch taken last. */
  give(cpu: Cpu): void {
    this.#depth[cpu.id]--;
  }
}
