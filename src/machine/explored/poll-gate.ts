/**
 * What keeps a polling loop finite: a CPU that looked at the same locations in two rounds of a
 * loop with a delay in it, and changed nothing meanwhile, goes on only when one of them changes.
 *
 * A round is what a CPU does between two delays. A round of reads is like the one before when it
 * reads the same locations in the same order; a round with writes also has to read and leave
 * the same values (the lock taken and given back). Such a loop would do the same again and again:
 * its counters and its clock are taken to make no difference, so time-outs do not happen.
 */

import type { Cell } from "../cell.js";

/** Longer rounds are not taken for polling. */
const ROUND_MAX = 24;

/** One location that a round looked at, and what the CPU saw or left there last. */
export class Glance {
  cell: Cell | undefined;
  address = 0;
  /** A device's whole state, by a count of its changes. */
  device: { version: number } | undefined;
  location = -1;
  lo = 0;
  hi = 0;
}

export class PollGate {
  /** What the closed gate waits for; none when it is open. */
  readonly watched: Glance[] = [];
  watchedCount = 0;
  readonly #round: Glance[] = [];
  #count = 0;
  #steps = 0;
  #places = 0;
  #values = 0;
  #writes = false;
  #lastSteps = -1;
  #lastPlaces = 0;
  #lastValues = 0;
  #lastWrites = false;

  get isClosed(): boolean {
    return this.watchedCount > 0;
  }

  reset(): void {
    this.watchedCount = 0;
    this.#begin();
    this.#lastSteps = -1;
  }

  open(): void {
    this.watchedCount = 0;
  }

  /** Notes an access of the round under way; (lo, hi) is what the CPU knows to be there now. */
  note(location: number, isWrite: boolean, seenLo: number, lo: number, hi: number): Glance {
    this.#steps++;
    this.#places = mix(this.#places, location);
    this.#values = mix(mix(this.#values, seenLo), lo + hi);
    if (isWrite) this.#writes = true;
    let glance: Glance | undefined;
    for (let index = 0; index < this.#count; index++) {
      if (this.#round[index].location === location) glance = this.#round[index];
    }
    if (glance === undefined) {
      if (this.#count >= ROUND_MAX) this.#count = 0;
      glance = this.#round[this.#count++] ??= new Glance();
      glance.location = location;
      glance.cell = undefined;
      glance.device = undefined;
      glance.address = 0;
    }
    glance.lo = lo;
    glance.hi = hi;
    return glance;
  }

  /** The round ends with a delay. Closes the gate if it was like the one before. */
  endRound(): void {
    const tooLong = this.#steps > ROUND_MAX;
    const alike =
      this.#steps === this.#lastSteps &&
      this.#places === this.#lastPlaces &&
      this.#writes === this.#lastWrites &&
      (!this.#writes || this.#values === this.#lastValues);
    if (alike && !tooLong && this.#steps > 0) {
      for (let index = 0; index < this.#count; index++) {
        const from = this.#round[index];
        const to = (this.watched[index] ??= new Glance());
        to.cell = from.cell;
        to.address = from.address;
        to.device = from.device;
        to.location = from.location;
        to.lo = from.lo;
        to.hi = from.hi;
      }
      this.watchedCount = this.#count;
    }
    this.#lastSteps = this.#steps;
    this.#lastPlaces = this.#places;
    this.#lastValues = this.#values;
    this.#lastWrites = this.#writes;
    this.#begin();
  }

  #begin(): void {
    this.#count = 0;
    this.#steps = 0;
    this.#places = 0;
    this.#values = 0;
    this.#writes = false;
  }
}

/** Steps of an FNV-like hash over numbers. */
function mix(hash: number, value: number): number {
  const low = Math.imul(hash ^ (value | 0), 0x01000193);
  return Math.imul(low ^ Math.floor(value / 2 ** 32), 0x01000193) | 0;
}
