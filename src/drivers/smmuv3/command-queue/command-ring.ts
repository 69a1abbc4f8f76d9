/**
 * The command queue's ring in memory and its two registers, as every kind of queue uses them.
 * Indices are those of the registers, slot and wrap bit. Nothing here is shared state of the
 * software: that belongs to the queues.
 */

import { COMMAND_BYTES, COMMAND_WORDS, queueSlot, queueSpace } from "#arch/smmuv3";
import {
  assert,
  type Cpu,
  type PhysicalAddress,
  type Routine,
  type Step,
  writeWords,
} from "#machine";
import { BATCH_COMMANDS, type CommandBatch } from "./command-batch.js";

/** Of 64 bits. */
const WORDS_PER_COMMAND = COMMAND_BYTES / 8;
/** What the architecture allows (IDR1.CMDQS), and what packed indices have bits for. */
const SIZE_LG2_MAX = 19;

export interface CommandRingOptions {
  /** 16 bytes per slot, naturally aligned. */
  readonly ring: PhysicalAddress;
  readonly sizeLg2: number;
  readonly prodRegister: PhysicalAddress;
  readonly consRegister: PhysicalAddress;
  /**
   * Where the software's indices begin, 0 if not given: for a queue that is taken over, or for
   * seeing what happens at a wrap or in a full queue.
   */
  readonly start?: { readonly prod: number; readonly cons: number };
  /** Commands of the longest list that will be issued; a batch can hold 64, the default. */
  readonly listCommandsMax?: number;
}

export class CommandRing {
  readonly address: PhysicalAddress;
  readonly sizeLg2: number;
  readonly size: number;
  /** Slot and wrap bit of an index. */
  readonly indexMask: number;
  readonly prodRegister: PhysicalAddress;
  readonly consRegister: PhysicalAddress;
  readonly start: { readonly prod: number; readonly cons: number };

  constructor(options: CommandRingOptions) {
    const { sizeLg2 } = options;
    const listSlotsMax = (options.listCommandsMax ?? BATCH_COMMANDS) + 1;
    assert(
      2 ** sizeLg2 >= listSlotsMax,
      `the command queue has room for a list and its CMD_SYNC: ${listSlotsMax} slots`,
    );
    assert(sizeLg2 <= SIZE_LG2_MAX, `the command queue has at most ${2 ** SIZE_LG2_MAX} slots`);
    this.address = options.ring;
    this.sizeLg2 = sizeLg2;
    this.size = 2 ** sizeLg2;
    this.indexMask = 2 * this.size - 1;
    this.prodRegister = options.prodRegister;
    this.consRegister = options.consRegister;
    this.start = options.start ?? { prod: 0, cons: 0 };
  }

  /** Address of a slot by an index, or by one that went past the wrap. */
  slotAddress(index: number): PhysicalAddress {
    return this.address + queueSlot(index, this.sizeLg2) * COMMAND_BYTES;
  }

  /** Slots from `prod` on that are free; none or less when `prod` is more than the size ahead. */
  free(prod: number, cons: number): number {
    return queueSpace(prod, cons, this.sizeLg2);
  }

  /** Writes `count` commands of the batch, from its `first`-th on, into slots from `index` on. */
  write(cpu: Cpu, batch: CommandBatch, first: number, count: number, index: number): Step<void> {
    const toEnd = this.size - queueSlot(index, this.sizeLg2);
    if (count > toEnd) return this.#writeAround(cpu, batch, first, count, index, toEnd);
    return writeWords(
      cpu,
      this.slotAddress(index),
      batch.words,
      first * COMMAND_WORDS,
      count * WORDS_PER_COMMAND,
    );
  }

  *#writeAround(
    cpu: Cpu,
    batch: CommandBatch,
    first: number,
    count: number,
    index: number,
    toEnd: number,
  ): Routine {
    yield* this.write(cpu, batch, first, toEnd, index);
    yield* this.write(cpu, batch, first + toEnd, count - toEnd, index + toEnd);
  }

  /** The hardware's index, without the error code. */
  *readCons(cpu: Cpu): Routine<number> {
    return (yield* cpu.readRegister32(this.consRegister)) & this.indexMask;
  }
}
