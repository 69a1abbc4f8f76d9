/** The event queue: fault records to software (IHI 0070, 3.5 and 7.2). */

import { EVENT_BYTES, EVENT_WORDS, encodeEvent, type KnownEvent } from "#arch/smmuv3";
import type { Agent, Routine } from "#machine";
import type { Bus } from "../bus.js";
import type { FaultInjection } from "../fault-injection.js";
import { GlobalError, type Interrupts } from "../interrupts.js";
import type { RegisterFile } from "../register-file.js";
import type { SmmuV3Statistics } from "../statistics.js";
import { OutputQueue } from "./output-queue.js";

export class EventQueue {
  readonly #registers: RegisterFile;
  readonly #ring: OutputQueue;
  readonly #interrupts: Interrupts;
  readonly #bus: Bus;
  readonly #statistics: SmmuV3Statistics;
  readonly #inject: FaultInjection;

  constructor(
    registers: RegisterFile,
    interrupts: Interrupts,
    bus: Bus,
    statistics: SmmuV3Statistics,
    inject: FaultInjection,
  ) {
    this.#registers = registers;
    this.#ring = new OutputQueue(registers.events, EVENT_BYTES);
    this.#interrupts = interrupts;
    this.#bus = bus;
    this.#statistics = statistics;
    this.#inject = inject;
  }

  /** Whether a record would be taken now (7.2.1). */
  get isWritable(): boolean {
    return this.#isOn && !this.#ring.isFull;
  }

  /** An abort that software has not acknowledged stops the queue. */
  get #isOn(): boolean {
    const { activeErrors, events } = this.#registers;
    return events.isEnabled && (activeErrors & GlobalError.eventQueueAbort) === 0;
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
    const ring = this.#ring;
    if (!this.isWritable) {
      if (this.#isOn) ring.overflow(agent);
      this.#statistics.eventsLost++;
      return false;
    }
    if (this.#bus.aborts(ring.nextAddress) || this.#inject.abortsRecord("event")) {
      this.#statistics.eventsLost++;
      yield* this.#interrupts.globalError(agent, GlobalError.eventQueueAbort);
      return false;
    }
    const becameNonEmpty = yield* ring.append(agent, words);
    this.#statistics.events[words[0] & 0xff]++;
    if (becameNonEmpty) yield* this.#interrupts.event(agent);
    return true;
  }
}
