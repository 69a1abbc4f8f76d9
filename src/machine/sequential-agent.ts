/**
 * An agent of the sequential machine. Accesses act at once on memory and cells;
 * only waits suspend.
 */

import type { CellTest, Cpu, Fence, Interrupt } from "./agent.js";
import { assert } from "./assert.js";
import type { Cell } from "./cell.js";
import {
  compareExchange,
  exchange,
  fetchAdd,
  fetchAnd,
  fetchOr,
  fetchXor,
} from "./cell-operations.js";
import type { PhysicalMemory } from "./memory.js";
import type { RegisterMap } from "./registers.js";
import type { Routine, Step, Suspension } from "./routine.js";
import type { SequentialMachine } from "./sequential.js";
import type { WorkCode } from "./work.js";

/** What a suspended activation waits for. */
interface Wait {
  cell: Cell | undefined;
  /** Memory word that is polled, when `cell` is undefined and `test` is not. */
  address: number;
  test: CellTest | undefined;
  untilNs: number;
}

interface Activation {
  readonly routine: Routine<unknown>;
  readonly name: string;
  /** The wait of the activation below, put back when this one ends. */
  readonly below: Wait;
}

const SUSPENDED = { done: false, value: undefined as unknown as Suspension } as const;
const FOREVER = Number.POSITIVE_INFINITY;

function noWait(): Wait {
  return { cell: undefined, address: 0, test: undefined, untilNs: -1 };
}

export class SequentialAgent implements Cpu {
  readonly id: number;
  readonly name: string;
  hi = 0;
  readonly #machine: SequentialMachine;
  readonly #memory: PhysicalMemory;
  readonly #registers: RegisterMap;
  readonly #activations: Activation[] = [];
  readonly #queued: Routine<unknown>[] = [];
  readonly #interrupts: Interrupt[] = [];
  readonly #result = { done: true as const, value: 0 as number };
  readonly #done: Step<number>;
  readonly #waiting: Step<number>;
  #irqDisableDepth = 0;
  #wait: Wait = noWait();

  constructor(machine: SequentialMachine, id: number, name: string) {
    this.#machine = machine;
    this.#memory = machine.memory;
    this.#registers = machine.registers;
    this.id = id;
    this.name = name;
    const result = this.#result;
    const done = { next: () => result, [Symbol.iterator]: () => done };
    this.#done = done;
    const waiting = {
      next: () => (this.#tryFinish() ? result : SUSPENDED),
      [Symbol.iterator]: () => waiting,
    };
    this.#waiting = waiting;
  }

  // --- what the machine asks ---

  get hasWork(): boolean {
    return this.#activations.length > 0 || this.#queued.length > 0;
  }

  /** When a timed wait ends; infinity when the agent waits for no time. */
  get wakeNs(): number {
    return this.#activations.length > 0 && this.#wait.untilNs >= 0 ? this.#wait.untilNs : FOREVER;
  }

  queue(routine: Routine<unknown>): void {
    this.#queued.push(routine);
  }

  raiseLocal(interrupt: Interrupt): void {
    if (!this.#interrupts.includes(interrupt)) this.#interrupts.push(interrupt);
  }

  canRun(): boolean {
    if (this.#interrupts.length > 0 && this.#irqDisableDepth === 0) return true;
    if (this.#activations.length === 0) return this.#queued.length > 0;
    return this.#waitIsOver();
  }

  /** Runs until the agent has to wait or has nothing left to do. */
  turn(): void {
    for (;;) {
      if (this.#interrupts.length > 0 && this.#irqDisableDepth === 0) this.#enterInterrupt();
      else if (this.#activations.length === 0) {
        const next = this.#queued.shift();
        if (next === undefined) return;
        this.#activations.push({ routine: next, name: this.name, below: noWait() });
      }
      const top = this.#activations[this.#activations.length - 1];
      if (!this.#resume(top)) {
        if (this.#interrupts.length > 0 && this.#irqDisableDepth === 0) continue;
        return;
      }
      this.#activations.pop();
      this.#wait = top.below;
      // A wait that was interrupted is looked at again by its own step.
      if (this.#activations.length > 0 && !this.#waitIsOver()) return;
    }
  }

  /** Returns whether the routine ended. */
  #resume(top: Activation): boolean {
    try {
      return top.routine.next().done === true;
    } catch (error) {
      // What the routine threw goes to whoever runs the machine; the agent is free again.
      this.#activations.length = 0;
      this.#irqDisableDepth = 0;
      throw error;
    }
  }

  describeWait(): string {
    const { cell, test, untilNs } = this.#wait;
    if (this.#activations.length === 0) return "";
    if (cell !== undefined) return `${this.name} for ${cell.name} (holds ${cell.value})`;
    if (test !== undefined) return `${this.name} for a word of memory`;
    return untilNs >= 0 ? `${this.name} until ${untilNs} ns` : this.name;
  }

  #enterInterrupt(): void {
    const interrupt = this.#interrupts.shift() as Interrupt;
    const below = this.#wait;
    this.#wait = noWait();
    this.#activations.push({ routine: interrupt.handler(this), name: interrupt.name, below });
  }

  #waitIsOver(): boolean {
    const { cell, address, test, untilNs } = this.#wait;
    if (test !== undefined) {
      const value = cell === undefined ? this.#memory.read32(address) : cell.value;
      if (test(value)) return true;
    }
    return untilNs >= 0 && untilNs <= this.#machine.nowNs;
  }

  /** Called when the routine resumes in a wait: finishes it, or stays suspended. */
  #tryFinish(): boolean {
    if (!this.#waitIsOver()) return false;
    const { cell, address, test } = this.#wait;
    if (cell !== undefined) this.#result.value = cell.value;
    else if (test !== undefined) this.#result.value = this.#memory.read32(address);
    this.#wait.cell = undefined;
    this.#wait.test = undefined;
    this.#wait.untilNs = -1;
    return true;
  }

  #finish(value: number): Step<number> {
    this.#result.value = value;
    return this.#done;
  }

  #nothing(): Step<void> {
    return this.#done as unknown as Step<void>;
  }

  // --- shared variables ---

  load(cell: Cell): Step<number> {
    return this.#finish(cell.value);
  }

  loadAcquire(cell: Cell): Step<number> {
    return this.#finish(cell.value);
  }

  store(cell: Cell, value: number): Step<void> {
    cell.value = value;
    return this.#nothing();
  }

  storeRelease(cell: Cell, value: number): Step<void> {
    cell.value = value;
    return this.#nothing();
  }

  compareExchange(cell: Cell, expected: number, desired: number): Step<number> {
    return this.#finish(compareExchange(cell, expected, desired));
  }

  exchange(cell: Cell, value: number): Step<number> {
    return this.#finish(exchange(cell, value));
  }

  fetchAdd(cell: Cell, addend: number): Step<number> {
    return this.#finish(fetchAdd(cell, addend));
  }

  fetchOr(cell: Cell, bits: number): Step<number> {
    return this.#finish(fetchOr(cell, bits));
  }

  fetchAnd(cell: Cell, bits: number): Step<number> {
    return this.#finish(fetchAnd(cell, bits));
  }

  fetchXor(cell: Cell, bits: number): Step<number> {
    return this.#finish(fetchXor(cell, bits));
  }

  fence(_kind: Fence): Step<void> {
    return this.#nothing();
  }

  waitUntil(cell: Cell, test: CellTest): Step<number> {
    if (test(cell.value)) return this.#finish(cell.value);
    this.#wait.cell = cell;
    this.#wait.test = test;
    this.#wait.untilNs = -1;
    return this.#waiting;
  }

  idleUntil(cell: Cell, test: CellTest): Step<number> {
    return this.waitUntil(cell, test);
  }

  poke(cell: Cell, value: number): void {
    cell.value = value;
  }

  // --- memory ---

  read8(address: number): Step<number> {
    return this.#finish(this.#memory.read8(address));
  }

  read16(address: number): Step<number> {
    return this.#finish(this.#memory.read16(address));
  }

  read32(address: number): Step<number> {
    return this.#finish(this.#memory.read32(address));
  }

  read64(address: number): Step<number> {
    const lo = this.#memory.read64(address);
    this.hi = this.#memory.hi;
    return this.#finish(lo);
  }

  write8(address: number, value: number): Step<void> {
    this.#memory.write8(address, value);
    return this.#nothing();
  }

  write16(address: number, value: number): Step<void> {
    this.#memory.write16(address, value);
    return this.#nothing();
  }

  write32(address: number, value: number): Step<void> {
    this.#memory.write32(address, value);
    return this.#nothing();
  }

  write64(address: number, lo: number, hi: number): Step<void> {
    this.#memory.write64(address, lo, hi);
    return this.#nothing();
  }

  compareExchange64(
    address: number,
    expectedLo: number,
    expectedHi: number,
    lo: number,
    hi: number,
  ): Step<number> {
    const foundLo = this.#memory.read64(address);
    const foundHi = this.#memory.hi;
    const matched = foundLo === expectedLo >>> 0 && foundHi === expectedHi >>> 0;
    if (matched) this.#memory.write64(address, lo, hi);
    this.hi = foundHi;
    return this.#finish(foundLo);
  }

  readBlock(address: number, target: Uint8Array): Step<void> {
    this.#memory.readBlock(address, target);
    return this.#nothing();
  }

  writeBlock(address: number, source: Uint8Array): Step<void> {
    this.#memory.writeBlock(address, source);
    return this.#nothing();
  }

  fill(address: number, sizeBytes: number, byte: number): Step<void> {
    this.#memory.fill(address, sizeBytes, byte);
    return this.#nothing();
  }

  waitUntilMemory32(address: number, test: CellTest, timeoutNs: number): Step<number> {
    const value = this.#memory.read32(address);
    if (test(value)) return this.#finish(value);
    this.#wait.cell = undefined;
    this.#wait.address = address;
    this.#wait.test = test;
    this.#wait.untilNs = this.#machine.nowNs + timeoutNs;
    return this.#waiting;
  }

  // --- registers ---

  readRegister32(address: number): Step<number> {
    const block = this.#registers.find(address);
    return this.#finish(block.read32(address - block.base, this));
  }

  readRegister64(address: number): Step<number> {
    const block = this.#registers.find(address);
    return this.#finish(block.read64(address - block.base, this));
  }

  writeRegister32(address: number, value: number): Step<void> {
    const block = this.#registers.find(address);
    block.write32(address - block.base, value, this);
    return this.#nothing();
  }

  writeRegister64(address: number, lo: number, hi: number): Step<void> {
    const block = this.#registers.find(address);
    block.write64(address - block.base, lo, hi, this);
    return this.#nothing();
  }

  // --- time ---

  work(_code: WorkCode, _count = 1): void {}

  workNs(_durationNs: number): void {}

  now(): number {
    return this.#machine.nowNs;
  }

  delay(durationNs: number): Step<void> {
    return this.sleepUntil(this.#machine.nowNs + durationNs);
  }

  sleepUntil(atNs: number): Step<void> {
    // Even a delay of nothing lets the others run: it stands for a spin of the CPU.
    this.#wait.cell = undefined;
    this.#wait.test = undefined;
    this.#wait.untilNs = atNs;
    return this.#waiting as unknown as Step<void>;
  }

  random(): number {
    return this.#machine.random.next();
  }

  raise(interrupt: Interrupt): void {
    this.#machine.raise(interrupt);
  }

  armTimer(interrupt: Interrupt, delayNs: number): void {
    this.#machine.timers.arm(interrupt, this.#machine.nowNs + delayNs);
  }

  cancelTimer(interrupt: Interrupt): boolean {
    return this.#machine.timers.cancel(interrupt);
  }

  irqDisable(): void {
    this.#irqDisableDepth++;
  }

  irqEnable(): void {
    assert(this.#irqDisableDepth > 0, "interrupts are enabled as often as they were disabled");
    this.#irqDisableDepth--;
  }
}
