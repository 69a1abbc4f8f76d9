/**
 * Drives the SMMU of a target by registers and queues: no driver is in between, so that any
 * configuration can be tried.
 */

import {
  CR0,
  CR2,
  decodeEvent,
  deposit,
  EVENT_BYTES,
  EVENT_WORDS,
  type EventRecord,
  encodeCfgiAll,
  encodeSync,
  encodeTlbiNsnhAll,
  queueAdvance,
  queueIsEmpty,
  queueSlot,
  queueUsed,
  Register,
  STRTAB_BASE_CFG,
  SyncSignal,
} from "#arch/smmuv3";
import { COMMANDS, COMMANDS_LG2, EVENTS, EVENTS_LG2, STREAM_TABLE } from "./layout.js";
import type { Target, Transfer } from "./target.js";

export type EncodeCommand = (words: Uint32Array, at: number) => void;

export interface StreamTableShape {
  readonly twoLevel: boolean;
  readonly sizeLg2: number;
  readonly split: number;
}

const QUEUES_ON = deposit(CR0.CMDQEN, 1) | deposit(CR0.EVENTQEN, 1);

export class Session {
  readonly target: Target;
  #commandProd = 0;
  #eventCons = 0;

  constructor(target: Target) {
    this.target = target;
  }

  /** Queues on, translation off: everything passes. */
  begin(): void {
    const { target } = this;
    target.writeRegister64(Register.STRTAB_BASE, STREAM_TABLE, 0);
    target.writeRegister64(Register.CMDQ_BASE, COMMANDS | COMMANDS_LG2, 0);
    target.writeRegister64(Register.EVENTQ_BASE, EVENTS | EVENTS_LG2, 0);
    target.writeRegister32(Register.CR2, deposit(CR2.RECINVSID, 1));
    target.writeRegister32(Register.CR0, QUEUES_ON);
  }

  /** Translation on with this stream table; it may not be changed while it is on. */
  translate(shape: StreamTableShape): void {
    const { target } = this;
    target.writeRegister32(
      Register.STRTAB_BASE_CFG,
      deposit(STRTAB_BASE_CFG.LOG2SIZE, shape.sizeLg2) |
        deposit(STRTAB_BASE_CFG.SPLIT, shape.split) |
        deposit(STRTAB_BASE_CFG.FMT, shape.twoLevel ? 1 : 0),
    );
    this.#forgetEverything();
    target.writeRegister32(Register.CR0, QUEUES_ON | deposit(CR0.SMMUEN, 1));
  }

  passEverything(): void {
    this.target.writeRegister32(Register.CR0, QUEUES_ON);
  }

  submit(...commands: readonly EncodeCommand[]): void {
    for (const encode of commands) {
      const words = new Uint32Array(4);
      encode(words, 0);
      const slot = queueSlot(this.#commandProd, COMMANDS_LG2);
      this.target.writeMemory(COMMANDS + slot * 16, new Uint8Array(words.buffer));
      this.#commandProd = queueAdvance(this.#commandProd, 1, COMMANDS_LG2);
    }
    this.target.writeRegister32(Register.CMDQ_PROD, this.#commandProd);
  }

  /** Runs a transfer and returns what it made the SMMU record. */
  async transfer(streamId: number, transfer: Transfer): Promise<EventRecord[]> {
    const prod = await this.target.transfer(streamId, transfer);
    const size = 2 ** EVENTS_LG2;
    const events: EventRecord[] = [];
    while (!queueIsEmpty(prod, this.#eventCons, EVENTS_LG2)) {
      // Up to the end of the ring at once, the rest in the next round.
      const slot = queueSlot(this.#eventCons, EVENTS_LG2);
      const used = queueUsed(prod, this.#eventCons, EVENTS_LG2);
      const count = Math.min(used, size - slot);
      const bytes = await this.target.readMemory(EVENTS + slot * EVENT_BYTES, count * EVENT_BYTES);
      const words = new Uint32Array(bytes.buffer);
      for (let at = 0; at < words.length; at += EVENT_WORDS) events.push(decodeEvent(words, at));
      this.#eventCons = queueAdvance(this.#eventCons, count, EVENTS_LG2);
    }
    if (events.length > 0) this.target.writeRegister32(Register.EVENTQ_CONS, this.#eventCons);
    return events;
  }

  #forgetEverything(): void {
    this.submit(encodeCfgiAll, encodeTlbiNsnhAll, sync);
  }
}

export const sync: EncodeCommand = (words, at) => encodeSync(words, at, SyncSignal.none);
