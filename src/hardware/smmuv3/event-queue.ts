/**
 * The event queue: fault records to software (IHI 0070, 3.5 and 7.2).
 *
 * Several transactions may fault at once: each takes a slot, and EVENTQ_PROD moves once all
 * records before it are in memory.
 */

import {
  EVENT_BYTES,
  EVENT_WORDS,
  encodeEvent,
  type KnownEvent,
  OVERFLOW_FLAG,
  queueAdvance,
  queueIsEmpty,
  queueIsFull,
  queueOverflowed,
  queueSlot,
} from "#arch/smmuv3";
import type { Agent, Routine } from "#machine";
import type { Bus } from "./bus.js";
import type { FaultInjection } from "./fault-injection.js";
import { GlobalError, type Interrupts } from "./interrupts.js";
import type { RegisterFile } from "./register-file.js";
import type { SmmuV3Statistics } from "./statistics.js";

export class EventQueue {
  readonly #registers: RegisterFile;
  readonly #interrupts: Interrupts;
  readonly #bus: Bus;
  readonly #statistics: SmmuV3Statistics;
  readonly #inject: FaultInjection;
  /** Slots taken whose records are not visible yet. */
  #taken = 0;
  /** Records that are being written. */
  #writers = 0;

  constructor(
    registers: RegisterFile,
    interrupts: Interrupts,
    bus: Bus,
    statistics: SmmuV3Statistics,
    inject: FaultInjection,
  ) {
    this.#registers = registers;
    this.#interrupts = interrupts;
    this.#bus = bus;
    this.#statistics = statistics;
    this.#inject = inject;
  }

  /** Whether a record would be taken now (7.2.1). */
  get isWritable(): boolean {
    const { eventQueueEnabled, eventProd, eventCons, eventQueueLg2, activeErrors } =
      this.#registers;
    if (!eventQueueEnabled || (activeErrors & GlobalError.eventQueueAbort) !== 0) return false;
    const slot = queueAdvance(eventProd.value, this.#taken, eventQueueLg2);
    return !queueIsFull(slot, eventCons, eventQueueLg2);
  }

  /** Waits for that, or until the SMMU is off, when nothing has to be recorded any more. */
  *waitUntilWritable(agent: Agent): Routine {
    yield* agent.waitUntil(this.#registers.eventQueueChange, this.#becameWritable);
  }

  readonly #becameWritable = (): boolean => this.isWritable || !this.#registers.isEnabled;

  /** Writes a record, or loses it: the queue may be off, full or not writable. */
  *record(agent: Agent, event: KnownEvent): Routine<boolean> {
    const words = new Uint32Array(EVENT_WORDS);
    encodeEvent(words, 0, event);
    return yield* this.write(agent, words);
  }

  /** The same for the eight words of a record; returns whether it was written. */
  *write(agent: Agent, words: Uint32Array): Routine<boolean> {
    const registers = this.#registers;
    const hasAborted = (registers.activeErrors & GlobalError.eventQueueAbort) !== 0;
    if (!registers.eventQueueEnabled || hasAborted) {
      this.#statistics.eventsLost++;
      return false;
    }
    const sizeLg2 = registers.eventQueueLg2;
    const slot = queueAdvance(registers.eventProd.value, this.#taken, sizeLg2);
    if (queueIsFull(slot, registers.eventCons, sizeLg2)) {
      this.#overflow(agent);
      return false;
    }
    const address = registers.eventQueueBase + queueSlot(slot, sizeLg2) * EVENT_BYTES;
    if (this.#bus.aborts(address) || this.#inject.abortsRecord("event")) {
      this.#statistics.eventsLost++;
      yield* this.#interrupts.globalError(agent, GlobalError.eventQueueAbort);
      return false;
    }
    this.#taken++;
    this.#writers++;
    yield* agent.writeBlock(address, new Uint8Array(words.buffer, words.byteOffset, EVENT_BYTES));
    this.#statistics.events[words[0] & 0xff]++;
    this.#writers--;
    // The load is where the record's time has come: what follows happens at that moment.
    yield* agent.load(registers.eventProd);
    if (this.#publish(agent)) yield* this.#interrupts.event(agent);
    return true;
  }

  /** Moves EVENTQ_PROD past all finished records; returns whether the queue was empty before. */
  #publish(agent: Agent): boolean {
    if (this.#writers > 0 || this.#taken === 0) return false;
    const { eventProd, eventCons, eventQueueLg2 } = this.#registers;
    const wasEmpty = queueIsEmpty(eventProd.value, eventCons, eventQueueLg2);
    agent.poke(eventProd, queueAdvance(eventProd.value, this.#taken, eventQueueLg2));
    this.#taken = 0;
    return wasEmpty;
  }

  /** The flag toggles once, until software has acknowledged it. */
  #overflow(agent: Agent): void {
    const { eventProd, eventCons } = this.#registers;
    this.#statistics.eventsLost++;
    if (queueOverflowed(eventProd.value, eventCons)) return;
    agent.poke(eventProd, (eventProd.value ^ OVERFLOW_FLAG) >>> 0);
  }
}
