/**
 * When a load has become steady, where nobody says how long that takes: jobs begin all at once,
 * with empty caches of addresses and empty flush queues, and what that sets off dies away over
 * some times of the queue's filling, which depends on the load.
 *
 * The ramp is looked at after times that double: it is over when the last half was like the
 * quarter before it, in rate and in latency, and long enough for every request in flight to have
 * completed some times. Latency is the more telling: it sees where requests in flight pile up.
 */

import type { Mode } from "../mode.js";

/** The first look; nothing has settled before. */
const FIRST_NS = 1.25e6;
/** No ramp is shorter, and in lazy mode none ends before the flush timer (10 ms) has come twice. */
const LEAST_NS = 5e6;
const LAZY_LEAST_NS = 20e6;
/**
 * A load that does not become steady is measured as it is: its interval tells. Up to then a short
 * run may take three times as long, one of a second no more than a fifth longer.
 */
const MOST_NS = 20e6;
const SHORT_MOST_NS = 160e6;
const SHORT_RUNTIMES = 2;
const LONG_RUNTIMES = 0.2;
/** What two stretches of a steady load may differ by: more than media times' jitter leaves. */
const ALIKE = 0.05;
/** Times that the last half has room for a request, one after the other. */
const ROUNDS = 4;

interface Stretch {
  readonly perNs: number;
  readonly latNs: number;
}

export class Ramp {
  readonly #beganNs: number;
  readonly #leastNs: number;
  readonly #mostNs: number;
  #lengthNs = FIRST_NS;
  #before: Stretch = { perNs: 0, latNs: 0 };
  #count = 0;
  #latCount = 0;
  #latSumNs = 0;

  constructor(beganNs: number, mode: Mode, runtimeNs: number) {
    this.#beganNs = beganNs;
    this.#leastNs = mode === "lazy" ? LAZY_LEAST_NS : LEAST_NS;
    const shortNs = Math.min(SHORT_MOST_NS, SHORT_RUNTIMES * runtimeNs);
    this.#mostNs = Math.max(MOST_NS, shortNs, LONG_RUNTIMES * runtimeNs);
  }

  /** When it is to be looked at. */
  get nextNs(): number {
    return this.#beganNs + this.#lengthNs;
  }

  add(): void {
    this.#count++;
  }

  addLatency(latNs: number): void {
    this.#latCount++;
    this.#latSumNs += latNs;
  }

  /** Looks at it, at `nextNs`: whether it is over. */
  look(): boolean {
    const lengthNs = this.#lengthNs;
    const before = this.#before;
    const last = {
      perNs: this.#count / (lengthNs / 2),
      latNs: this.#latCount === 0 ? 0 : this.#latSumNs / this.#latCount,
    };
    const isSteady =
      isAlike(before.perNs, last.perNs) &&
      isAlike(before.latNs, last.latNs) &&
      ROUNDS * last.latNs <= lengthNs / 2;
    if (lengthNs >= this.#leastNs && isSteady) return true;
    if (2 * lengthNs > this.#mostNs) return true;
    this.#before = last;
    this.#lengthNs *= 2;
    this.#count = 0;
    this.#latCount = 0;
    this.#latSumNs = 0;
    return false;
  }
}

function isAlike(before: number, last: number): boolean {
  return before > 0 && Math.abs(last / before - 1) <= ALIKE;
}
