/**
 * Source-set dynamic partial-order reduction with sleep sets (Abdulla, Aronis, Jonsson, Sagonas,
 * "Optimal dynamic partial order reduction", POPL 2014, algorithm 1): of executions that differ
 * only in the order of independent events, one is explored, and seldom a part of another, which
 * is given up as soon as everybody who could go on is asleep.
 *
 * Waits (`waitUntil`, fences, interrupts) are handled as the paper's section on blocking says: a
 * race is turned round only if the later event could have gone on before the earlier one.
 *
 * The stack of states is data: it is saved, resumed, and split over workers (`StackEntry`).
 */

import type { ExploredMachine } from "#machine";
import { diverged, processCalled } from "./schedule.js";
import type { SearchScheduler } from "./scheduler.js";
import { SleepSets } from "./sleep.js";
import { LANES, LANES_LG2, type Race, Trace } from "./trace.js";

/** One state on the path, as it is saved: processes are named. */
export interface StackEntry {
  readonly chosen: string;
  /** Of a choice that the process's event makes: the outcome taken, and out of how many. */
  readonly pick: readonly [outcome: number, count: number];
  readonly toExplore: readonly string[];
  /** Explored from here before. */
  readonly explored: readonly string[];
  /** Nothing is added here any more: another worker has the rest. */
  readonly isFrozen: boolean;
}

/** In place of the number of a choice's outcomes: the others are not explored from here. */
const PICKED = -1;

/** A process that was explored from a state of a restored stack, to be looked at once more. */
export interface Detour {
  readonly state: number;
  readonly process: number;
}

export class DporScheduler implements SearchScheduler {
  readonly isExhaustive = true;
  /** An execution was given up because everybody sleeps. */
  isPruned = false;
  isTooDeep = false;
  depthMax = 0;
  readonly #trace: Trace;
  readonly #sleep: SleepSets;
  /** By state: the process that goes from there, who can go, who is to, and who did. */
  readonly #chosen: Int32Array;
  readonly #enabled: Int32Array;
  readonly #toExplore: Int32Array;
  readonly #explored: Int32Array;
  readonly #frozen: Uint8Array;
  readonly #pickOutcome: Int32Array;
  readonly #pickCount: Int32Array;
  /** With some outcome of its choice the event touched something. */
  readonly #pickTouches: Uint8Array;
  /** At this depth executions are left, for others to go on from; all before is explored in full. */
  readonly #splitDepth: number;
  isSplit = false;
  /** States on the path. */
  #depth = 0;
  /** States that are as in the execution before; the event from the last of them is new. */
  #known = 0;
  // Of `turn`, by process: its first event that counts, and the first that is left out.
  readonly #firstOf = new Int32Array(LANES);
  readonly #leftFrom = new Int32Array(LANES);
  #detour: Detour | undefined;

  constructor(eventsMax: number, splitDepth: number = Number.POSITIVE_INFINITY) {
    this.#splitDepth = splitDepth;
    this.#trace = new Trace(eventsMax);
    this.#sleep = new SleepSets(eventsMax);
    this.#chosen = new Int32Array(eventsMax);
    this.#enabled = new Int32Array(eventsMax);
    this.#toExplore = new Int32Array(eventsMax);
    this.#explored = new Int32Array(eventsMax);
    this.#frozen = new Uint8Array(eventsMax);
    this.#pickOutcome = new Int32Array(eventsMax);
    this.#pickCount = new Int32Array(eventsMax);
    this.#pickTouches = new Uint8Array(eventsMax);
  }

  begin(): void {
    this.isPruned = false;
    this.isTooDeep = false;
    this.isSplit = false;
  }

  choose(machine: ExploredMachine, current: number): number {
    const state = machine.eventCount;
    if (this.#detour !== undefined && state > this.#detour.state) return -1;
    if (state < this.#known) return this.#follow(machine, state);
    const enabled = machine.enabled();
    if (enabled === 0) return -1;
    const awake = enabled & ~this.#sleep.asleep[state];
    if (awake === 0) {
      this.isPruned = true;
      return -1;
    }
    if (state >= this.#splitDepth) {
      this.isSplit = true;
      return -1;
    }
    if (state >= this.#trace.eventsMax - 1) {
      this.isTooDeep = true;
      return -1;
    }
    const goesOn = current >= 0 && ((awake >>> current) & 1) === 1;
    const process = goesOn ? current : 31 - Math.clz32(awake & -awake);
    this.#chosen[state] = process;
    this.#enabled[state] = enabled;
    const isTop = this.#splitDepth !== Number.POSITIVE_INFINITY;
    this.#toExplore[state] = isTop ? enabled : 1 << process;
    this.#explored[state] = 0;
    this.#frozen[state] = isTop ? 1 : 0;
    this.#pickCount[state] = 0;
    this.#pickTouches[state] = 0;
    this.#sleep.numbered[state] = machine.locations.count;
    this.#depth = state + 1;
    this.#beforeInterrupt(machine, process);
    return process;
  }

  pick(machine: ExploredMachine, process: number, count: number): number {
    const state = machine.eventCount;
    if (this.#detour?.state === state) {
      this.#pickedInDetour = true;
      return 0;
    }
    if (this.#pickCount[state] === 0) {
      this.#pickCount[state] = count;
      this.#pickOutcome[state] = 0;
    }
    if (this.#pickOutcome[state] >= count) {
      const { name } = machine.processes.list[process];
      throw diverged(`in step ${state + 1} ${name} chooses what there is not`);
    }
    return this.#pickOutcome[state];
  }

  performed(machine: ExploredMachine, process: number): void {
    const event = machine.eventCount;
    const trace = this.#trace;
    if (event < trace.count) return;
    if (this.#pickCount[event] !== 0 && machine.footprint.count > 0) this.#pickTouches[event] = 1;
    trace.record(machine, process, machine.footprint);
    if (((machine.interruptProcesses >>> process) & 1) === 1) this.#widen(machine, event);
    this.#turnRaces(event, process);
    this.#sleep.pass(event, process, trace);
  }

  /** A state on the path that is known; one that was restored is seen here for the first time. */
  #follow(machine: ExploredMachine, state: number): number {
    if (state >= this.#trace.count) {
      this.#enabled[state] = machine.enabled();
      this.#sleep.numbered[state] = machine.locations.count;
      if (((this.#enabled[state] >>> this.#chosen[state]) & 1) === 0) {
        const { name } = machine.processes.list[this.#chosen[state]];
        throw diverged(`step ${state + 1} is ${name}'s, who cannot go there`);
      }
      this.#widenTop(state);
    }
    const detour = this.#detour;
    if (detour !== undefined && detour.state === state) return detour.process;
    if (state === this.#trace.count) this.#beforeInterrupt(machine, this.#chosen[state]);
    return this.#chosen[state];
  }

  /** A path that others are to share: nobody will add to it what its parts come across. */
  #widenTop(state: number): void {
    if (this.#splitDepth === Number.POSITIVE_INFINITY || this.#frozen[state] === 1) return;
    this.#toExplore[state] |= this.#enabled[state];
    this.#frozen[state] = 1;
  }

  /**
   * Who is interrupted in a wait waits behind the handler from now on; what it has missed before
   * is seen now or never.
   */
  #beforeInterrupt(machine: ExploredMachine, process: number): void {
    if (((machine.interruptProcesses >>> process) & 1) === 1) this.probeWaiting(machine);
  }

  // --- the stack as data ---

  /** The stack as it is between two executions. */
  save(machine: ExploredMachine): StackEntry[] {
    const { list } = machine.processes;
    const named = (set: number): string[] =>
      list.filter((_, process) => ((set >>> process) & 1) === 1).map(({ name }) => name);
    return Array.from({ length: this.#depth }, (_, state) => ({
      chosen: list[this.#chosen[state]].name,
      pick: [this.#pickOutcome[state], this.#pickCount[state]],
      toExplore: named(this.#toExplore[state]),
      explored: named(this.#explored[state]),
      isFrozen: this.#frozen[state] === 1,
    }));
  }

  /** Only what comes below the path is explored from it: the rest of it is others'. */
  saveSplit(machine: ExploredMachine): StackEntry[] {
    return this.save(machine).map((entry) => ({
      ...entry,
      toExplore: [entry.chosen],
      pick: [entry.pick[0], entry.pick[1] === 0 ? 0 : PICKED],
    }));
  }

  /**
   * Takes a saved stack up; the detours are to be played (`begin`, execution, `endDetour`) in
   * their order before the search goes on: they tell what those explored before touch.
   */
  load(machine: ExploredMachine, entries: readonly StackEntry[]): Detour[] {
    const numbers = (names: readonly string[]): number[] =>
      names.map((name) => processCalled(machine, name));
    const setOf = (names: readonly string[]): number =>
      numbers(names).reduce((set, process) => set | (1 << process), 0);
    const detours: Detour[] = [];
    for (const [state, entry] of entries.entries()) {
      this.#chosen[state] = processCalled(machine, entry.chosen);
      [this.#pickOutcome[state], this.#pickCount[state]] = entry.pick;
      this.#toExplore[state] = setOf(entry.toExplore);
      this.#explored[state] = setOf(entry.explored);
      this.#frozen[state] = entry.isFrozen ? 1 : 0;
      // Outcomes of before are not known any more.
      this.#pickTouches[state] = this.#pickCount[state] === 0 ? 0 : 1;
      for (const process of numbers(entry.explored)) detours.push({ state, process });
    }
    this.#depth = entries.length;
    this.#known = entries.length;
    return detours;
  }

  beginDetour(detour: Detour): void {
    this.#detour = detour;
    this.begin();
  }

  endDetour(): void {
    const { state, process } = this.#detour as Detour;
    this.#detour = undefined;
    if (this.#pickedInDetour) this.#sleep.putUnknown(state, process);
    else this.#sleep.put(state, process, this.#trace);
    this.#pickedInDetour = false;
    this.#trace.drop(state);
  }

  #pickedInDetour = false;

  /** Who waits, at the end of an execution in vain, may have missed its moment. */
  probeWaiting(machine: ExploredMachine): void {
    const trace = this.#trace;
    machine.forEachWaiting((process) => {
      trace.probe(machine, process, machine.footprint);
      this.#turnRaces(trace.count, process);
    });
    machine.footprint.clear();
  }

  /** Prepares the next execution; false when there is none. */
  advance(): boolean {
    const trace = this.#trace;
    this.depthMax = Math.max(this.depthMax, this.#depth);
    while (this.#depth > 0) {
      const state = this.#depth - 1;
      if (this.#pickCount[state] > 0 && ++this.#pickOutcome[state] < this.#pickCount[state]) {
        return this.#resumeAt(state);
      }
      const process = this.#chosen[state];
      // Another outcome of its choice may have touched other things than the last one.
      if (this.#pickTouches[state] === 1) this.#sleep.putUnknown(state, process);
      else this.#sleep.put(state, process, trace);
      this.#explored[state] |= 1 << process;
      this.#pickCount[state] = 0;
      this.#pickTouches[state] = 0;
      const left = this.#toExplore[state] & ~this.#sleep.asleep[state];
      if (left !== 0) {
        this.#chosen[state] = 31 - Math.clz32(left & -left);
        return this.#resumeAt(state);
      }
      trace.drop(state);
      this.#depth = state;
    }
    return false;
  }

  #resumeAt(state: number): boolean {
    this.#trace.drop(state);
    this.#known = state + 1;
    this.#depth = state + 1;
    return true;
  }

  /**
   * An interrupt was taken in a state: what its CPU was about to do comes behind the handler now,
   * by program order and not by a race that could be turned. So everybody else is tried there.
   */
  #widen({ interrupts }: ExploredMachine, state: number): void {
    if (interrupts.hasInterrupted) this.#toExplore[state] |= this.#enabled[state];
  }

  /** Sees to it that each race of the newest event is also explored the other way round. */
  #turnRaces(event: number, process: number): void {
    const trace = this.#trace;
    for (let index = 0; index < trace.raceCount; index++) {
      const race = trace.races[index];
      if (this.#frozen[race.event] === 0) this.#turn(race, event, process);
    }
  }

  /**
   * Finds who can begin an execution from before the race's event in which what does not follow
   * that, and then `process`'s event, come first; schedules one of them unless one is already.
   *
   * Two kinds of events are left out, with all that follows them. One who slept in that state
   * and yet goes first here was woken without need (sleep sets know less than clocks): what it
   * begins was explored from an earlier state. And what a wait overtakes comes after the wait.
   */
  #turn({ event: race, isWait }: Race, event: number, process: number): void {
    const trace = this.#trace;
    const { clocks } = trace;
    const explored = this.#explored[race];
    const inherited = this.#sleep.asleep[race] & ~explored;
    const covered = (this.#toExplore[race] & ~inherited) | explored;
    const lane = trace.process[race];
    const local = trace.local[race];
    let seen = 0;
    let left = 0;
    let initials = 0;
    for (let at = race + 1; at < event; at++) {
      const base = at << LANES_LG2;
      if (clocks[base + lane] >= local) continue;
      if (left !== 0 && followsAny(left, this.#leftFrom, clocks, base)) continue;
      const from = trace.process[at];
      const bit = 1 << from;
      const isFirst = (seen & bit) === 0;
      const isInitial = isFirst && !followsAny(seen, this.#firstOf, clocks, base);
      if ((isInitial && (inherited & bit) !== 0) || (isWait && trace.isOvertaken(at))) {
        left |= bit;
        this.#leftFrom[from] = trace.local[at];
        continue;
      }
      if (!isFirst) continue;
      seen |= bit;
      this.#firstOf[from] = trace.local[at];
      if (!isInitial) continue;
      if ((covered & bit) !== 0) return;
      initials |= bit;
    }
    const ownClocks = isWait ? trace.waitClock : clocks;
    const ownBase = isWait ? 0 : event << LANES_LG2;
    if (followsAny(left, this.#leftFrom, ownClocks, ownBase)) return;
    const own = 1 << process;
    // What a wait would touch, had it come that early, is not known: it may follow any of them.
    const isLast = isWait && seen !== 0;
    const isFirst = (seen & own) === 0 && !followsAny(seen, this.#firstOf, ownClocks, ownBase);
    if (isFirst && !isLast && ((covered | inherited) & own) !== 0) return;
    const enabled = this.#enabled[race];
    const able = initials & enabled;
    if (isFirst && (enabled & own) !== 0 && (!isLast || able === 0)) {
      this.#toExplore[race] |= own;
    } else if (able !== 0) {
      this.#toExplore[race] |= able & -able;
    } else {
      // A wait was judged too generously: then everybody is tried.
      this.#toExplore[race] |= enabled;
    }
  }
}

/** Whether the event with the clock at `base` follows, or is, event `from` of one of the lanes. */
function followsAny(lanes: number, from: Int32Array, clocks: Int32Array, base: number): boolean {
  let others = lanes;
  while (others !== 0) {
    const lane = 31 - Math.clz32(others);
    others ^= 1 << lane;
    if (clocks[base + lane] >= from[lane]) return true;
  }
  return false;
}
