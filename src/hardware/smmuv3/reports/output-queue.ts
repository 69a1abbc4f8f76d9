/**
 * A ring in memory that the SMMU fills (IHI 0070, 3.5). Several agents may write at once: each
 * takes a slot, and the producer index moves once all records before it are in memory. What
 * happens when there is no room, or no right to write, is the business of the two queues.
 */

import {
  OVERFLOW_FLAG,
  queueAdvance,
  queueIsEmpty,
  queueIsFull,
  queueOverflowed,
  queueSlot,
} from "#arch/smmuv3";
import type { Agent, PhysicalAddress, Routine } from "#machine";
import type { OutputRegisters } from "./output-registers.js";

export class OutputQueue {
  readonly #registers: OutputRegisters;
  readonly #entryBytes: number;
  /** Slots taken whose records are not visible yet. */
  #taken = 0;
  /** Records that are being written. */
  #writers = 0;

  constructor(registers: OutputRegisters, entryBytes: number) {
    this.#registers = registers;
    this.#entryBytes = entryBytes;
  }

  get isFull(): boolean {
    const { cons, sizeLg2 } = this.#registers;
    return queueIsFull(this.#next, cons, sizeLg2);
  }

  /** An overflow that software has not acknowledged. */
  get hasOverflowed(): boolean {
    const { prod, cons } = this.#registers;
    return queueOverflowed(prod.value, cons);
  }

  /** Where the next record goes. */
  get nextAddress(): PhysicalAddress {
    const { base, sizeLg2 } = this.#registers;
    return base + queueSlot(this.#next, sizeLg2) * this.#entryBytes;
  }

  get #next(): number {
    const { prod, sizeLg2 } = this.#registers;
    return queueAdvance(prod.value, this.#taken, sizeLg2);
  }

  /** Writes a record; there is room. Returns whether that made the queue non-empty. */
  *append(agent: Agent, words: Uint32Array): Routine<boolean> {
    const address = this.nextAddress;
    this.#taken++;
    this.#writers++;
    const bytes = new Uint8Array(words.buffer, words.byteOffset, this.#entryBytes);
    yield* agent.writeBlock(address, bytes);
    this.#writers--;
    // The load is where the record's time has come: what follows happens at that moment.
    yield* agent.load(this.#registers.prod);
    return this.#publish(agent);
  }

  /** Toggles the overflow flag, once until software has acknowledged it. */
  overflow(agent: Agent): void {
    if (this.hasOverflowed) return;
    const { prod } = this.#registers;
    agent.poke(prod, (prod.value ^ OVERFLOW_FLAG) >>> 0);
  }

  #publish(agent: Agent): boolean {
    if (this.#writers > 0 || this.#taken === 0) return false;
    const { prod, cons, sizeLg2 } = this.#registers;
    const wasEmpty = queueIsEmpty(prod.value, cons, sizeLg2);
    agent.poke(prod, queueAdvance(prod.value, this.#taken, sizeLg2));
    this.#taken = 0;
    return wasEmpty;
  }
}
