/**
 * The events of the execution under way, with who happens before whom.
 *
 * Two events depend on each other when they touch a location that one of them writes, or when
 * the machine says so (a fence and the stores it waited for). An event's clock has, for each
 * process, how many of its events happen before. All is kept in flat arrays; `drop` takes
 * events back, so that only what a new execution does differently is ever analysed.
 */

import { type ExploredMachine, type Footprint, ProcessKind, Wait } from "#machine";

/** Room for the processes of a machine (`PROCESSES_MAX` is 31), a power of two. */
export const LANES = 32;
export const LANES_LG2 = 5;

/** Races of the event recorded last: earlier events that could have come after it. */
export interface Race {
  event: number;
  /** The race is with a wait: in the other order the event has not seen the location's writes. */
  isWait: boolean;
}

export class Trace {
  readonly eventsMax: number;
  count = 0;
  readonly process: Int32Array;
  /** Number of the event among those of its process, from 1 on. */
  readonly local: Int32Array;
  readonly clocks: Int32Array;
  /** Clock of the last event by its process's order alone, for races with waits. */
  readonly waitClock = new Int32Array(LANES);
  /** What that event waited for, if it is a wait. */
  readonly waitLocations: number[] = [];
  readonly races: Race[] = [];
  raceCount = 0;
  /** First access of each event in the arrays below; one more entry than events. */
  readonly accessStart: Int32Array;
  accessLocation = new Int32Array(4096);
  accessIsWrite = new Uint8Array(4096);
  #accessEvent = new Int32Array(4096);
  /** What the location's table said before: to take the access back, and to go back in time. */
  #accessBefore = new Int32Array(4096);
  /** Values before a write. */
  #accessLo = new Float64Array(4096);
  #accessHi = new Float64Array(4096);
  /** Last access by location, -1 for none: of any write, and of reads by process. */
  #lastWrite = new Int32Array(1024).fill(-1);
  #lastRead = new Int32Array(1024 * LANES).fill(-1);
  readonly #lastEvent = new Int32Array(LANES).fill(-1);
  readonly #eventBefore: Int32Array;
  /** By process: the agent that an access is for, so that a CPU and its buffer are known as one. */
  readonly #owner = new Int32Array(LANES);
  readonly #isAgent = new Uint8Array(LANES);
  /** By event: a store that its CPU has seen before became visible. */
  readonly #isForwarded: Uint8Array;
  #processCount = 0;
  readonly #candidates: number[] = [];

  constructor(eventsMax: number) {
    this.eventsMax = eventsMax;
    this.process = new Int32Array(eventsMax + 1);
    this.local = new Int32Array(eventsMax);
    this.clocks = new Int32Array((eventsMax + 1) * LANES);
    this.accessStart = new Int32Array(eventsMax + 1);
    this.#eventBefore = new Int32Array(eventsMax);
    this.#isForwarded = new Uint8Array(eventsMax + 1);
  }

  /** Whether `event` happens before, or is, what the clock at `base` of `clocks` belongs to. */
  covers(clocks: Int32Array, base: number, event: number): boolean {
    return clocks[base + this.process[event]] >= this.local[event];
  }

  /** Appends an event; its races are in `races` then. */
  record(machine: ExploredMachine, process: number, footprint: Footprint): void {
    this.#learnProcesses(machine);
    const event = this.count;
    const base = event << LANES_LG2;
    this.process[event] = process;
    this.#isForwarded[event] = footprint.isForwarded ? 1 : 0;
    this.#beginClock(event, base, process, footprint);
    this.#collect(event, footprint, base);
    this.#eventBefore[event] = this.#lastEvent[process];
    this.#lastEvent[process] = event;
    this.#commit(event, process, footprint);
    this.count++;
  }

  /** The races that a process which waits at the end would have; nothing is appended. */
  probe(machine: ExploredMachine, process: number, footprint: Footprint): void {
    this.#learnProcesses(machine);
    const event = this.count;
    const base = event << LANES_LG2;
    this.process[event] = process;
    this.#isForwarded[event] = 0;
    this.#beginClock(event, base, process, footprint);
    this.#collect(event, footprint, base);
  }

  /** Takes back all events from `event` on. */
  drop(event: number): void {
    for (let last = this.count - 1; last >= event; last--) {
      const process = this.process[last];
      for (let at = this.accessStart[last + 1] - 1; at >= this.accessStart[last]; at--) {
        const location = this.accessLocation[at];
        if (this.accessIsWrite[at] === 1) this.#lastWrite[location] = this.#accessBefore[at];
        else this.#lastRead[(location << LANES_LG2) + process] = this.#accessBefore[at];
      }
      this.#lastEvent[process] = this.#eventBefore[last];
    }
    this.count = Math.min(this.count, event);
  }

  #beginClock(event: number, base: number, process: number, footprint: Footprint): void {
    const { clocks } = this;
    const before = this.#lastEvent[process];
    if (before < 0) clocks.fill(0, base, base + LANES);
    else clocks.copyWithin(base, before << LANES_LG2, (before + 1) << LANES_LG2);
    this.local[event] = ++clocks[base + process];
    for (let index = 0; index < footprint.joinCount; index++)
      this.#join(base, footprint.joins[index]);
  }

  /** Finds the races of an event and completes its clock. */
  #collect(event: number, footprint: Footprint, base: number): void {
    const process = this.process[event];
    const candidates = this.#candidates;
    if (candidates.length > 0) candidates.length = 0;
    this.raceCount = 0;
    let waits = false;
    for (let at = 0; at < footprint.count; at++) {
      const location = footprint.locations[at];
      if (location >= this.#lastWrite.length) this.#growLocations(location);
      if (footprint.waits[at] !== Wait.none) waits = true;
      else this.#addWrite(location, process, footprint.isWrite[at]);
      if (footprint.isWrite[at]) this.#addReads(location, event);
    }
    if (waits) {
      for (let lane = 0; lane < LANES; lane++) this.waitClock[lane] = this.clocks[base + lane];
    }
    // From the latest on: what one candidate follows is no race of its own.
    if (candidates.length > 1) candidates.sort(descending);
    for (const candidate of candidates) {
      if (this.covers(this.clocks, base, candidate)) continue;
      this.#addRace(candidate, false);
      this.#join(base, candidate);
    }
    if (waits) this.#collectWaits(process, footprint, base);
  }

  /**
   * A wait races with the last write before which it could have gone on. With the writes after
   * that it does not: they had to come first, or come last.
   */
  #collectWaits(process: number, footprint: Footprint, base: number): void {
    this.waitLocations.length = 0;
    for (let at = 0; at < footprint.count; at++) {
      if (footprint.waits[at] === Wait.none) continue;
      this.waitLocations.push(footprint.locations[at]);
      const write = this.#writeToOvertake(process, footprint, at);
      if (write >= 0) this.#addRace(write, true);
      const last = this.#lastForeignWrite(footprint.locations[at], process);
      if (last >= 0) this.#join(base, this.#accessEvent[last]);
    }
  }

  /** Whether an event changed something that the wait recorded last is for, and need not have. */
  isOvertaken(event: number): boolean {
    for (let at = this.accessStart[event]; at < this.accessStart[event + 1]; at++) {
      if (this.accessIsWrite[at] === 0) continue;
      if (!this.waitLocations.includes(this.accessLocation[at])) continue;
      return !this.covers(this.waitClock, 0, event);
    }
    return false;
  }

  /** The last write that the wait, access `at`, could have come before; -1 for none. */
  #writeToOvertake(process: number, footprint: Footprint, at: number): number {
    let access = this.#lastWrite[footprint.locations[at]];
    // What the process found there between the access and the one after it.
    let lo = footprint.lo[at];
    let hi = footprint.hi[at];
    let couldAllAlong = false;
    for (; access >= 0; access = this.#accessBefore[access]) {
      const event = this.#accessEvent[access];
      if (this.#isOwnStore(process, event)) {
        // It has found that there ever since it issued the store, whatever others wrote.
        if (!footprint.couldGo(at, lo, hi)) return -1;
        couldAllAlong = true;
      } else if (this.covers(this.waitClock, 0, event)) {
        return -1;
      } else {
        // An event that writes it twice is one step: nobody finds there what is between.
        const earlier = this.#accessBefore[access];
        if (earlier >= 0 && this.#accessEvent[earlier] === event) continue;
        lo = this.#accessLo[access];
        hi = this.#accessHi[access];
        if (couldAllAlong || footprint.couldGo(at, lo, hi)) return event;
      }
    }
    return -1;
  }

  #addRace(event: number, isWait: boolean): void {
    const race = (this.races[this.raceCount++] ??= { event, isWait });
    race.event = event;
    race.isWait = isWait;
  }

  #addWrite(location: number, process: number, isWrite: boolean): void {
    const access = isWrite ? this.#lastWrite[location] : this.#lastForeignWrite(location, process);
    if (access >= 0) this.#candidates.push(this.#accessEvent[access]);
  }

  /** The last write to a location that did not come out of the process's own store buffer. */
  #lastForeignWrite(location: number, process: number): number {
    let access = this.#lastWrite[location];
    while (access >= 0 && this.#isOwnStore(process, this.#accessEvent[access])) {
      access = this.#accessBefore[access];
    }
    return access;
  }

  /** The reads that no write followed yet; a CPU's read is not ordered by its own buffer's. */
  #addReads(location: number, event: number): void {
    const write = this.#lastWrite[location];
    const first = location << LANES_LG2;
    const process = this.process[event];
    for (let reader = 0; reader < this.#processCount; reader++) {
      const access = this.#lastRead[first + reader];
      if (access < 0 || reader === process || this.#isOwnStore(reader, event)) continue;
      if (access < write && !this.#isOwnStore(reader, this.#accessEvent[write])) continue;
      this.#candidates.push(this.#accessEvent[access]);
    }
  }

  /** A CPU sees its buffered store before and after it became visible: that order is no matter. */
  #isOwnStore(reader: number, event: number): boolean {
    return (
      this.#isForwarded[event] === 1 &&
      this.#isAgent[reader] === 1 &&
      this.#owner[this.process[event]] === this.#owner[reader]
    );
  }

  #commit(event: number, process: number, footprint: Footprint): void {
    let access = this.accessStart[event];
    if (access + footprint.count > this.accessLocation.length) this.#growAccesses(footprint.count);
    for (let at = 0; at < footprint.count; at++, access++) {
      const location = footprint.locations[at];
      const isWrite = footprint.isWrite[at];
      this.accessLocation[access] = location;
      this.accessIsWrite[access] = isWrite ? 1 : 0;
      this.#accessEvent[access] = event;
      if (isWrite) {
        this.#accessBefore[access] = this.#lastWrite[location];
        this.#accessLo[access] = footprint.lo[at];
        this.#accessHi[access] = footprint.hi[at];
        this.#lastWrite[location] = access;
      } else {
        const table = (location << LANES_LG2) + process;
        this.#accessBefore[access] = this.#lastRead[table];
        this.#lastRead[table] = access;
      }
    }
    this.accessStart[event + 1] = access;
  }

  #join(base: number, event: number): void {
    const { clocks } = this;
    const from = event << LANES_LG2;
    for (let lane = 0; lane < this.#processCount; lane++) {
      if (clocks[from + lane] > clocks[base + lane]) clocks[base + lane] = clocks[from + lane];
    }
  }

  #learnProcesses(machine: ExploredMachine): void {
    const { list } = machine.processes;
    for (; this.#processCount < list.length; this.#processCount++) {
      this.#owner[this.#processCount] = list[this.#processCount].agentId;
      this.#isAgent[this.#processCount] =
        list[this.#processCount].kind === ProcessKind.agent ? 1 : 0;
    }
  }

  #growLocations(location: number): void {
    const size = 2 ** Math.ceil(Math.log2(location + 1));
    const writes = new Int32Array(size).fill(-1);
    const reads = new Int32Array(size * LANES).fill(-1);
    writes.set(this.#lastWrite);
    reads.set(this.#lastRead);
    this.#lastWrite = writes;
    this.#lastRead = reads;
  }

  #growAccesses(more: number): void {
    const size = 2 * (this.accessLocation.length + more);
    this.accessLocation = grown(this.accessLocation, new Int32Array(size));
    this.accessIsWrite = grown(this.accessIsWrite, new Uint8Array(size));
    this.#accessEvent = grown(this.#accessEvent, new Int32Array(size));
    this.#accessBefore = grown(this.#accessBefore, new Int32Array(size));
    this.#accessLo = grown(this.#accessLo, new Float64Array(size));
    this.#accessHi = grown(this.#accessHi, new Float64Array(size));
  }
}

function descending(a: number, b: number): number {
  return b - a;
}

function grown<T extends Int32Array | Uint8Array | Float64Array>(from: T, to: T): T {
  to.set(from);
  return to;
}
