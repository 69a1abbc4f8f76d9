/**
 * Interrupts and timers of the explored machine. An armed one is a process that may go whenever
 * its CPU is between two steps and has interrupts enabled: a timer may hence fire at any time
 * after it was armed, and sooner or later does.
 *
 * What orders them: arming, cancelling and taking touch the interrupt; taking also touches the
 * CPU's interrupt state, which every step with interrupts enabled looks at.
 */

import type { Interrupt } from "../agent.js";
import { assert } from "../assert.js";
import type { ExploredAgent } from "./agent.js";
import { Thing } from "./locations.js";
import type { ExploredMachine } from "./machine.js";

export interface Pending {
  readonly interrupt: Interrupt;
  /** Touched by whoever arms, cancels or takes it. */
  readonly thing: Thing;
  readonly process: number;
  isArmed: boolean;
  takenCount: number;
}

const isClear = (value: number): boolean => value === 0;
const isSet = (value: number): boolean => value !== 0;

export class Interrupts {
  readonly #machine: ExploredMachine;
  /** Those that were armed in this execution. */
  readonly known: Pending[] = [];
  /** Of those that were armed or cancelled: one may be cancelled before it is armed. */
  readonly #things = new Map<Interrupt, Thing>();
  /** Bits of all processes that are interrupts. */
  processes = 0;
  /** Whether the CPU that took one last was in the middle of something. */
  hasInterrupted = false;
  /** An interrupt that was armed again was not taken because of `takenMax`. */
  wasCut = false;

  constructor(machine: ExploredMachine) {
    this.#machine = machine;
  }

  reset(): void {
    this.known.length = 0;
    this.#things.clear();
  }

  arm(interrupt: Interrupt, by: ExploredAgent): void {
    const machine = this.#machine;
    assert(
      machine.options.interrupts === true,
      "a machine to explore says `interrupts: true` if timers or interrupts are used on it",
    );
    let pending = this.#find(interrupt);
    if (pending === undefined) {
      const process = machine.processes.ofInterrupt(by.id, by.armedFirst++, interrupt.name);
      const thing = this.#thingOf(interrupt);
      pending = { interrupt, thing, process, isArmed: false, takenCount: 0 };
      // Numbered here: a look at who waits must not give out numbers.
      machine.locations.ofThing(this.#cpuOf(pending).irq);
      this.processes |= 1 << process;
      this.known.push(pending);
    }
    const location = machine.locations.ofThing(pending.thing);
    machine.footprint.write(location, pending.isArmed ? 1 : 0, 0);
    if (pending.takenCount >= machine.interruptsTakenMax) this.wasCut = true;
    else pending.isArmed = true;
  }

  cancel(interrupt: Interrupt, _by: ExploredAgent): boolean {
    const { locations, footprint } = this.#machine;
    const pending = this.#find(interrupt);
    const wasArmed = pending?.isArmed === true;
    footprint.write(locations.ofThing(this.#thingOf(interrupt)), wasArmed ? 1 : 0, 0);
    if (pending !== undefined) pending.isArmed = false;
    return wasArmed;
  }

  canTake(pending: Pending): boolean {
    return pending.isArmed && this.#cpuOf(pending).irqDepth === 0;
  }

  /** What the CPU needs to take it goes into the footprint; false if it can. */
  noteWait(pending: Pending): boolean {
    if (this.canTake(pending)) return false;
    const { locations, footprint } = this.#machine;
    const cpu = this.#cpuOf(pending);
    // Both, though one may hold: when it held last, the other may have held, too.
    footprint.await(locations.ofThing(pending.thing), pending.isArmed ? 1 : 0, 0, isSet, false);
    footprint.await(locations.ofThing(cpu.irq), cpu.irqDepth === 0 ? 0 : 1, 0, isClear, false);
    return true;
  }

  /** The CPU takes it: its handler is put on top. */
  take(pending: Pending): ExploredAgent {
    const machine = this.#machine;
    const { locations, footprint } = machine;
    const cpu = this.#cpuOf(pending);
    footprint.awaitAndWrite(locations.ofThing(pending.thing), 1, isSet);
    footprint.awaitAndWrite(locations.ofThing(cpu.irq), 0, isClear);
    pending.isArmed = false;
    pending.takenCount++;
    this.hasInterrupted = cpu.isPending;
    cpu.joins.push(machine.currentEvent);
    cpu.routines.enter(pending.interrupt);
    return cpu;
  }

  /** A step with interrupts enabled: it matters whether one was taken before it. */
  noteIrqOpen(agent: ExploredAgent): void {
    const machine = this.#machine;
    if (machine.options.interrupts !== true || !agent.isCpu) return;
    machine.footprint.read(machine.locations.ofThing(agent.irq), 0, 0);
  }

  /** Interrupts were enabled (`before` 1) or disabled (`before` 0). */
  noteIrqChange(agent: ExploredAgent, before: 0 | 1): void {
    const machine = this.#machine;
    if (machine.options.interrupts !== true || !agent.isCpu) return;
    machine.footprint.write(machine.locations.ofThing(agent.irq), before, 0);
  }

  #find(interrupt: Interrupt): Pending | undefined {
    for (const pending of this.known) if (pending.interrupt === interrupt) return pending;
    return undefined;
  }

  #thingOf(interrupt: Interrupt): Thing {
    let thing = this.#things.get(interrupt);
    if (thing === undefined) {
      thing = new Thing(interrupt.name);
      this.#things.set(interrupt, thing);
    }
    return thing;
  }

  #cpuOf(pending: Pending): ExploredAgent {
    return this.#machine.cpuAgent(pending.interrupt.cpuId);
  }
}
