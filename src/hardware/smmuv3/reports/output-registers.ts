/**
 * The registers of a queue that the SMMU writes and software reads: events or page requests
 * (IHI 0070, 3.5). A view of the register file's words; the producer index is a cell, so that
 * the machine orders what the SMMU's agents write.
 */

import { CR0, extract, type Field, getAddress, getField, QUEUE_BASE, Register } from "#arch/smmuv3";
import { type Cell, loneCell, type PhysicalAddress } from "#machine";

/** Where a queue's registers lie in page 0, or would. */
export interface OutputOffsets {
  readonly base: number;
  readonly prod: number;
  readonly cons: number;
  /** Its bit in CR0. */
  readonly enable: Field;
}

export const EVENT_OFFSETS: OutputOffsets = {
  base: Register.EVENTQ_BASE,
  prod: Register.EVENTQ_PROD & 0xffff,
  cons: Register.EVENTQ_CONS & 0xffff,
  enable: CR0.EVENTQEN,
};

export const PRI_OFFSETS: OutputOffsets = {
  base: Register.PRIQ_BASE,
  prod: Register.PRIQ_PROD & 0xffff,
  cons: Register.PRIQ_CONS & 0xffff,
  enable: CR0.PRIQEN,
};

export class OutputRegisters {
  /** The producer index; written by whoever records something. */
  readonly prod: Cell;
  readonly #words: Uint32Array;
  readonly #offsets: OutputOffsets;
  readonly #sizeLg2Max: number;

  constructor(name: string, words: Uint32Array, offsets: OutputOffsets, sizeLg2Max: number) {
    this.prod = loneCell(name);
    this.#words = words;
    this.#offsets = offsets;
    this.#sizeLg2Max = sizeLg2Max;
  }

  get isEnabled(): boolean {
    return extract(this.#words[Register.CR0 >> 2], this.#offsets.enable) !== 0;
  }

  get cons(): number {
    return this.#words[this.#offsets.cons >> 2];
  }

  get sizeLg2(): number {
    const sizeLg2 = getField(this.#words, this.#offsets.base >> 2, QUEUE_BASE.LOG2SIZE);
    return Math.min(this.#sizeLg2Max, sizeLg2);
  }

  get base(): PhysicalAddress {
    return getAddress(this.#words, this.#offsets.base >> 2, QUEUE_BASE.ADDR);
  }
}
