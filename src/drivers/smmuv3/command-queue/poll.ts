/**
 * How long a CPU that waits for the SMMU waits between two looks (kernel: queue_poll in
 * arm-smmu-v3.c), until the time is up, one second mostly: until an event, or for some time.
 *
 * A `Poll` or `EventPoll` belongs to whoever waits; it is reused and allocates nothing.
 */

import type { Agent, Cell, PollPauses } from "#machine";

/** Looks per round; the last one of a round delays (ARM_SMMU_POLL_SPIN_COUNT). */
const SPINS_PER_ROUND = 10;
/** A relaxed spin: one `yield` instruction and the loop around it, a few cycles. */
const RELAX_NS = 5;
const FIRST_DELAY_NS = 1_000;
/** Hardware that needs longer is taken for dead (ARM_SMMU_POLL_TIMEOUT_US). */
export const POLL_TIMEOUT_NS = 1_000_000_000;

/** Period of the event stream of Arm's timers, which ends a `wfe` at the latest (10 kHz). */
const EVENT_STREAM_NS = 100_000;

/** A CPU that sleeps with `wfe` between looks, until the SMMU sends an event. */
export class EventPoll implements PollPauses {
  lastNs = 0;
  event: Cell | undefined;

  begin(agent: Agent, event: Cell): void {
    this.lastNs = agent.now() + POLL_TIMEOUT_NS;
    this.event = event;
  }

  next(nowNs: number): number {
    return nowNs > this.lastNs ? -1 : EVENT_STREAM_NS;
  }
}

/** A CPU that looks again after a few relaxed spins, then after delays that double each time. */
export class Poll implements PollPauses {
  #spins = 0;
  #delayNs = FIRST_DELAY_NS;
  lastNs = 0;

  begin(agent: Agent, timeoutNs: number = POLL_TIMEOUT_NS): void {
    this.#spins = 0;
    this.#delayNs = FIRST_DELAY_NS;
    this.lastNs = agent.now() + timeoutNs;
  }

  /** Nanoseconds to let pass before the next look; -1 when the time is up. */
  next(nowNs: number): number {
    if (nowNs > this.lastNs) return -1;
    this.#spins++;
    if (this.#spins < SPINS_PER_ROUND) return RELAX_NS;
    const delayNs = this.#delayNs;
    this.#delayNs *= 2;
    this.#spins = 0;
    return delayNs;
  }
}
