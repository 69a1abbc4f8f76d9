/**
 * What one event touched: a list of accesses, reused from event to event.
 *
 * A searcher reads it when the event is over. For a write it has the value before (of memory
 * both halves), so that it can be told whether somebody who waited for the location could have
 * gone on before the write. `joins` are earlier events which this one follows for a reason other
 * than a common location: the stores that a fence waited for, the event that issued a store.
 */

import type { CellTest } from "../agent.js";

/** Why a read may have had to wait. */
export const Wait = { none: 0, test: 1, change: 2 } as const;
export type WaitCode = (typeof Wait)[keyof typeof Wait];

export class Footprint {
  count = 0;
  readonly locations: number[] = [];
  readonly isWrite: boolean[] = [];
  /** A cell's value, or the low half of a granule; of a write what was there before. */
  readonly lo: number[] = [];
  readonly hi: number[] = [];
  readonly waits: WaitCode[] = [];
  readonly tests: (CellTest | undefined)[] = [];
  /** A wait's test looks at the high half. */
  readonly testsHi: boolean[] = [];
  joinCount = 0;
  readonly joins: number[] = [];
  /** A store became visible, to a place where its CPU has seen it since it was issued. */
  isForwarded = false;

  clear(): void {
    this.count = 0;
    this.joinCount = 0;
    this.isForwarded = false;
  }

  read(location: number, lo: number, hi: number): void {
    const at = this.count++;
    this.locations[at] = location;
    this.isWrite[at] = false;
    this.lo[at] = lo;
    this.hi[at] = hi;
    this.waits[at] = Wait.none;
  }

  write(location: number, beforeLo: number, beforeHi: number): void {
    const at = this.count++;
    this.locations[at] = location;
    this.isWrite[at] = true;
    this.lo[at] = beforeLo;
    this.hi[at] = beforeHi;
    this.waits[at] = Wait.none;
  }

  /** A read that could not happen before `test` held for the value (or its high half). */
  await(location: number, lo: number, hi: number, test: CellTest, testsHi: boolean): void {
    const at = this.count;
    this.read(location, lo, hi);
    this.waits[at] = Wait.test;
    this.tests[at] = test;
    this.testsHi[at] = testsHi;
  }

  /** A read that could not happen before the value differed from (lo, hi), which a poll saw. */
  awaitChange(location: number, lo: number, hi: number): void {
    const at = this.count;
    this.read(location, lo, hi);
    this.waits[at] = Wait.change;
  }

  /** A write that could not happen before `test` held for the value before it. */
  awaitAndWrite(location: number, before: number, test: CellTest): void {
    const at = this.count;
    this.write(location, before, 0);
    this.waits[at] = Wait.test;
    this.tests[at] = test;
    this.testsHi[at] = false;
  }

  join(event: number): void {
    if (event >= 0) this.joins[this.joinCount++] = event;
  }

  /** Whether access `at` did not have to wait while its location held (lo, hi). */
  couldGo(at: number, lo: number, hi: number): boolean {
    switch (this.waits[at]) {
      case Wait.none:
        return true;
      case Wait.change:
        return lo !== this.lo[at] || hi !== this.hi[at];
      default:
        return (this.tests[at] as CellTest)(this.testsHi[at] ? hi : lo);
    }
  }
}
