/**
 * Transactions that are held until software has dealt with their fault (IHI 0070, 3.12.2,
 * 4.7.1 and 4.7.2).
 *
 * A held transaction has a slot, whose number is its STAG. The slot is taken before the event
 * is recorded and is free again as soon as software has decided, so that no STAG stands for two
 * transactions. The agent of the device waits; software's decision reaches it through the cell
 * of the slot.
 */

import { ResumeResponse } from "#arch/smmuv3";
import { type InFlight, NOT_IN_FLIGHT } from "#hardware/bus";
import { type Agent, assert, type Cell, loneCell, type Routine, type StreamId } from "#machine";
import type { Transaction } from "../translation/transaction.js";
import type { EventQueue } from "./event-queue.js";
import { stalledFault } from "./faults.js";

/** What software has decided; the numbers are those of CMD_RESUME. */
const UNDECIDED = -1;
/** No slot is free. */
const NO_STAG = -1;
const FREE = -1;

interface Slot {
  /** The StreamID whose transaction is held; `FREE` when none is. */
  streamId: StreamId;
  /** The decision, which the device's agent waits for; each holder has a cell of its own. */
  decision: Cell;
}

export class StallBuffer {
  readonly #name: string;
  readonly #events: EventQueue;
  readonly #slots: Slot[];
  /** Slots in use; whoever finds all of them taken waits for this. */
  readonly #used: Cell;

  constructor(name: string, stallsMax: number, events: EventQueue) {
    this.#name = name;
    this.#events = events;
    this.#slots = Array.from({ length: stallsMax }, (_, stag) => ({
      streamId: FREE,
      decision: this.#newDecision(stag),
    }));
    this.#used = loneCell(`${name} stalled transactions`);
  }

  /** Transactions that are held now. */
  get count(): number {
    return this.#used.value;
  }

  /**
   * Holds a transaction that has faulted until software decides. Meanwhile it does not count as
   * in flight: the command that resumes it may lie behind a CMD_SYNC (4.7.3). As long as
   * software cannot be told, the transaction is to try again as if it had just arrived (7.2.1).
   */
  *hold(agent: Agent, transaction: Transaction, inFlight: InFlight): Routine<ResumeResponse> {
    const stag = this.#events.isWritable ? this.#take(agent, transaction.streamId) : NO_STAG;
    if (stag === NO_STAG) {
      leave(agent, transaction, inFlight);
      // Like further traffic on a port that is blocked.
      yield* agent.waitUntil(this.#used, this.#hasRoom);
      yield* this.#events.waitUntilWritable(agent);
      return ResumeResponse.retry;
    }
    const { decision } = this.#slots[stag];
    transaction.fault = stalledFault(transaction.fault, stag);
    const isRecorded = yield* this.#events.record(agent, transaction.fault);
    leave(agent, transaction, inFlight);
    // Software was not told of it.
    if (!isRecorded) this.#decide(agent, stag, ResumeResponse.retry);
    return (yield* agent.waitUntil(decision, isDecided)) as ResumeResponse;
  }

  readonly #hasRoom = (used: number): boolean => used < this.#slots.length;

  /** Takes a slot: its number is the STAG; `NO_STAG` when all are taken. */
  #take(agent: Agent, streamId: StreamId): number {
    const stag = this.#slots.findIndex((slot) => slot.streamId === FREE);
    if (stag === NO_STAG) return NO_STAG;
    const slot = this.#slots[stag];
    slot.streamId = streamId;
    slot.decision = this.#newDecision(stag);
    agent.poke(this.#used, this.#used.value + 1);
    return stag;
  }

  /** CMD_RESUME: without effect unless `stag` holds a transaction of that StreamID. */
  resume(agent: Agent, streamId: StreamId, stag: number, response: ResumeResponse): void {
    if (this.#slots[stag]?.streamId === streamId) this.#decide(agent, stag, response);
  }

  /** CMD_STALL_TERM: ends, with an abort, whatever of the stream is held. */
  terminate(agent: Agent, streamId: StreamId): void {
    for (let stag = 0; stag < this.#slots.length; stag++) {
      this.resume(agent, streamId, stag, ResumeResponse.abort);
    }
  }

  /** SMMUEN has become 0: nothing stays held (6.3.9.6). */
  terminateAll(agent: Agent): void {
    for (let stag = 0; stag < this.#slots.length; stag++) {
      if (this.#slots[stag].streamId !== FREE) this.#decide(agent, stag, ResumeResponse.abort);
    }
  }

  #decide(agent: Agent, stag: number, response: ResumeResponse): void {
    const slot = this.#slots[stag];
    assert(slot.streamId !== FREE, `STAG ${stag} holds a transaction`);
    slot.streamId = FREE;
    agent.poke(slot.decision, response);
    agent.poke(this.#used, this.#used.value - 1);
  }

  #newDecision(stag: number): Cell {
    return loneCell(`${this.#name} decision on STAG ${stag}`, UNDECIDED);
  }
}

function leave(agent: Agent, transaction: Transaction, inFlight: InFlight): void {
  inFlight.end(agent, transaction.epoch);
  transaction.epoch = NOT_IN_FLIGHT;
}

function isDecided(value: number): boolean {
  return value !== UNDECIDED;
}
