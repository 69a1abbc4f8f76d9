/**
 * All schedules with at most so many preemptions, but for those that cannot show anything else.
 *
 * The reduction of `dpor.ts` leaves out an execution because another one shows the same; that one
 * may have more preemptions, so that with a bound it would be left out, too (Coons, Musuvathi,
 * McKinley, "Bounded partial-order reduction", OOPSLA 2013). So here every agent is tried that may
 * go within the bound, and two other things are left out:
 *
 * - What comes after a state that was reached before by a schedule that differs only in the order
 *   of independent events, with the same agent at it and as few preemptions. A state is told by
 *   who happened before whom (Musuvathi and Qadeer, "Partial-order reduction for context-bounded
 *   state exploration", MSR-TR-2007-12), of which a hash is kept.
 * - Stores that become visible when nobody cares. As that costs no preemption, it can be put off
 *   until right before an event that touches the same: either one that was performed here, and
 *   then the store is tried first, or one that somebody waits to perform. Writes of registers,
 *   whose effects are not known before, are tried in every state.
 */

import { ANY_REGISTER, type ExploredAgent, type ExploredMachine, ProcessKind } from "#machine";
import { Preemptions } from "./preemptions.js";
import type { SearchScheduler } from "./scheduler.js";
import { LANES, LANES_LG2, Trace } from "./trace.js";
import { scrambled, Visited } from "./visited.js";

export class BoundedScheduler implements SearchScheduler {
  readonly isExhaustive = true;
  readonly isSplit = false;
  isPruned = false;
  isTooDeep = false;
  depthMax = 0;
  readonly #trace: Trace;
  readonly #preemptions: Preemptions;
  readonly #visited = new Visited();
  // By state: who can go, who goes, who is still to go, who went, and the choice made there.
  readonly #enabled: Int32Array;
  readonly #chosen: Int32Array;
  readonly #left: Int32Array;
  readonly #tried: Int32Array;
  readonly #pickOutcome: Int32Array;
  readonly #pickCount: Int32Array;
  /** By state: hashes of the events before it, whatever their order. */
  readonly #lo: Int32Array;
  readonly #hi: Int32Array;
  #depth = 0;
  #known = 0;
  /** What `#toward` has collected: bits of processes that make stores visible. */
  #useful = 0;

  constructor(eventsMax: number, preemptionsMax: number) {
    this.#trace = new Trace(eventsMax);
    this.#preemptions = new Preemptions(preemptionsMax, eventsMax);
    this.#enabled = new Int32Array(eventsMax);
    this.#chosen = new Int32Array(eventsMax);
    this.#left = new Int32Array(eventsMax);
    this.#tried = new Int32Array(eventsMax);
    this.#pickOutcome = new Int32Array(eventsMax);
    this.#pickCount = new Int32Array(eventsMax);
    this.#lo = new Int32Array(eventsMax + 1);
    this.#hi = new Int32Array(eventsMax + 1);
  }

  begin(): void {
    this.isPruned = false;
    this.isTooDeep = false;
  }

  choose(machine: ExploredMachine): number {
    const state = machine.eventCount;
    if (state >= this.#known && !this.#enter(machine, state)) return -1;
    const process = this.#chosen[state];
    this.#preemptions.pass(machine, state, this.#enabled[state], process);
    return process;
  }

  /** A new state, and who is to be tried there; false when nobody is. */
  #enter(machine: ExploredMachine, state: number): boolean {
    const enabled = machine.enabled();
    if (enabled === 0) return false;
    this.isPruned = this.#wasThere(state);
    if (this.isPruned) return false;
    this.isTooDeep = state >= this.#trace.eventsMax - 1;
    if (this.isTooDeep) return false;
    const preemptions = this.#preemptions;
    const mine = preemptions.agentsOf(machine) | machine.interruptProcesses;
    const allowed = preemptions.allowed(machine, state, enabled);
    let candidates = (allowed & mine) | (this.#usefulNow(machine) & enabled);
    if (candidates === 0) candidates = enabled & -enabled;
    this.#enabled[state] = enabled;
    this.#left[state] = candidates;
    this.#tried[state] = 0;
    const running = preemptions.running[state];
    const goesOn = running >= 0 && ((candidates >>> running) & 1) === 1;
    this.#take(state, goesOn ? running : 31 - Math.clz32(candidates & -candidates));
    this.#depth = state + 1;
    return true;
  }

  #wasThere(state: number): boolean {
    const { running, count } = this.#preemptions;
    const lo = scrambled(this.#lo[state] + Math.imul(running[state] + 1, 0x9e3779b1));
    const hi = scrambled(this.#hi[state] ^ running[state]);
    return this.#visited.wasThere(lo, hi, count[state]);
  }

  performed(machine: ExploredMachine, process: number): void {
    const event = machine.eventCount;
    const trace = this.#trace;
    if (event < trace.count) return;
    trace.record(machine, process, machine.footprint);
    this.#hash(event, process);
    if (machine.memoryModel === "sc") return;
    this.#useful = 0;
    this.#towardFootprint(machine, cpuOf(machine, process));
    this.#left[event] |= this.#useful & this.#enabled[event] & ~this.#tried[event];
  }

  /** An event is told by its process, the outcome of its choice, and all that happened before. */
  #hash(event: number, process: number): void {
    const { clocks } = this.#trace;
    const base = event << LANES_LG2;
    const outcome = this.#pickCount[event] === 0 ? 0 : this.#pickOutcome[event] + 1;
    let lo = process + Math.imul(outcome, 0x01000193);
    let hi = ~lo;
    for (let lane = 0; lane < LANES; lane++) {
      lo = Math.imul(lo ^ clocks[base + lane], 0x01000193);
      hi = Math.imul(hi + clocks[base + lane], 0x5bd1e995) ^ (hi >>> 15);
    }
    this.#lo[event + 1] = this.#lo[event] + scrambled(lo);
    this.#hi[event + 1] = this.#hi[event] + scrambled(hi);
  }

  pick(machine: ExploredMachine, _process: number, count: number): number {
    const state = machine.eventCount;
    if (this.#pickCount[state] === 0) {
      this.#pickCount[state] = count;
      this.#pickOutcome[state] = 0;
    }
    return this.#pickOutcome[state];
  }

  probeWaiting(): void {}

  advance(): boolean {
    this.depthMax = Math.max(this.depthMax, this.#depth);
    for (; this.#depth > 0; this.#depth--) {
      const state = this.#depth - 1;
      this.#trace.drop(state);
      this.#known = this.#depth;
      if (this.#pickCount[state] > 0 && ++this.#pickOutcome[state] < this.#pickCount[state]) {
        return true;
      }
      const left = this.#left[state];
      if (left === 0) continue;
      this.#take(state, 31 - Math.clz32(left & -left));
      return true;
    }
    return false;
  }

  #take(state: number, process: number): void {
    this.#chosen[state] = process;
    this.#left[state] &= ~(1 << process);
    this.#tried[state] |= 1 << process;
    this.#pickCount[state] = 0;
  }

  // --- stores that somebody may care for ---

  /** Those that somebody waits for, and writes of registers. */
  #usefulNow(machine: ExploredMachine): number {
    this.#useful = 0;
    if (machine.memoryModel === "sc") return 0;
    for (let id = 0; id < machine.cpus.length; id++) {
      const cpu = machine.cpuAgent(id);
      this.#toward(machine, cpu, ANY_REGISTER);
      machine.footprint.clear();
      if (!cpu.noteOwnWait()) continue;
      this.#towardOwn(machine, id);
      // A compareExchange that would succeed waits no more once it fails.
      this.#towardFootprint(machine, id);
    }
    machine.forEachWaiting((process) => this.#towardFootprint(machine, cpuOf(machine, process)));
    machine.footprint.clear();
    return this.#useful;
  }

  /** What CPUs other than `self` store where the footprint is. */
  #towardFootprint(machine: ExploredMachine, self: number): void {
    const { footprint, cpus } = machine;
    for (let id = 0; id < cpus.length; id++) {
      if (id === self) continue;
      const cpu = machine.cpuAgent(id);
      for (let at = 0; at < footprint.count; at++) {
        this.#toward(machine, cpu, footprint.locations[at]);
      }
    }
  }

  #towardOwn(machine: ExploredMachine, cpuId: number): void {
    const { list } = machine.processes;
    for (let process = 0; process < list.length; process++) {
      const { kind, agentId } = list[process];
      if (kind === ProcessKind.drain && agentId === cpuId) this.#useful |= 1 << process;
    }
  }

  #toward(machine: ExploredMachine, { id, buffer }: ExploredAgent, location: number): void {
    const slot = buffer?.slotToward(location) ?? -1;
    if (slot < 0) return;
    this.#useful |= 1 << machine.processes.ofDrain(id, slot, machine.memoryModel === "tso");
  }
}

/** Whose own store it is no matter when to see: the CPU that acts, and nobody for a buffer. */
function cpuOf({ processes }: ExploredMachine, process: number): number {
  const { kind, agentId } = processes.list[process];
  return kind === ProcessKind.agent ? agentId : -1;
}
