/**
 * Sleep sets: per state, processes whose next event was explored from here or from a state
 * before, with what that event touched. A sleeping process need not go before something that
 * its event depends on has happened.
 *
 * A location that had no number yet when the state was reached may have another number in
 * another execution; an event on such locations is taken to depend on every event that touches
 * one.
 */

import { LANES, LANES_LG2, type Trace } from "./trace.js";

/** Events that touch more are not kept: the process wakes up at once, which is only slower. */
const ACCESSES_MAX = 6;
/** Count of accesses, count of locations that had numbers where it fell asleep, accesses. */
const HEAD = 2;
const STRIDE = HEAD + ACCESSES_MAX;
const TOO_MANY = -1;
/** States that there is room for at first: few searches are deeper. */
const FIRST_STATES = 128;

export class SleepSets {
  /** By state (number of events before it): bits of the sleeping processes. */
  readonly asleep: Int32Array;
  /** By state: how many locations had numbers. */
  readonly numbered: Int32Array;
  /** By state and process: the head, then location * 2 + (1 for a write) for each access. */
  #touched = new Int32Array(FIRST_STATES * LANES * STRIDE);

  constructor(eventsMax: number) {
    this.asleep = new Int32Array(eventsMax + 1);
    this.numbered = new Int32Array(eventsMax + 1);
  }

  /** The event recorded last was `process`'s from `state`: the process sleeps there from now on. */
  put(state: number, process: number, trace: Trace): void {
    const at = this.#at(state, process);
    const first = trace.accessStart[state];
    const count = trace.accessStart[state + 1] - first;
    this.#touched[at] = count > ACCESSES_MAX ? TOO_MANY : count;
    this.#touched[at + 1] = this.numbered[state];
    for (let index = 0; index < Math.min(count, ACCESSES_MAX); index++) {
      const location = trace.accessLocation[first + index];
      this.#touched[at + HEAD + index] = location * 2 + trace.accessIsWrite[first + index];
    }
    this.asleep[state] |= 1 << process;
  }

  /** As `put`, for an event that may touch anything. */
  putUnknown(state: number, process: number): void {
    this.#touched[this.#at(state, process)] = TOO_MANY;
    this.asleep[state] |= 1 << process;
  }

  /** Who still sleeps after the event of `process` from `state`, the last one recorded. */
  pass(state: number, process: number, trace: Trace): void {
    this.#reserve(state + 1);
    let still = 0;
    let others = this.asleep[state] & ~(1 << process);
    while (others !== 0) {
      const sleeper = 31 - Math.clz32(others);
      others ^= 1 << sleeper;
      if (this.#isWoken(state, sleeper, trace)) continue;
      still |= 1 << sleeper;
      const from = this.#at(state, sleeper);
      this.#touched.copyWithin(this.#at(state + 1, sleeper), from, from + STRIDE);
    }
    this.asleep[state + 1] = still;
  }

  #isWoken(state: number, sleeper: number, trace: Trace): boolean {
    const touched = this.#touched;
    const at = this.#at(state, sleeper);
    const count = touched[at];
    if (count === TOO_MANY) return true;
    // What got its number later may have another one here.
    const known = touched[at + 1];
    const end = trace.accessStart[state + 1];
    for (let access = trace.accessStart[state]; access < end; access++) {
      const location = trace.accessLocation[access];
      const isWrite = trace.accessIsWrite[access] === 1;
      for (let index = at + HEAD; index < at + HEAD + count; index++) {
        const other = touched[index] >>> 1;
        if (other >= known && location >= known) return true;
        if (other === location && (isWrite || (touched[index] & 1) === 1)) return true;
      }
    }
    return false;
  }

  /** Makes room for a state's sleepers. */
  #reserve(state: number): void {
    const size = (state + 1) * LANES * STRIDE;
    if (size <= this.#touched.length) return;
    const touched = new Int32Array(2 * size);
    touched.set(this.#touched);
    this.#touched = touched;
  }

  #at(state: number, process: number): number {
    return ((state << LANES_LG2) + process) * STRIDE;
  }
}
