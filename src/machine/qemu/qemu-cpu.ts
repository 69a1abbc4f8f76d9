/**
 * A CPU of the QEMU machine: memory and registers are QEMU's, reached over the qtest socket;
 * shared variables are ours.
 *
 * Writes are queued and cost nothing until somebody reads; a read suspends until its reply is
 * there. Replies come in the order of commands, so program order is kept whatever is queued.
 * No guest code runs in QEMU, so nobody but the devices comes in between.
 *
 * A `QemuCpu` has a stack of activations: the routine it was given, with interrupt handlers
 * on top. The machine decides when it goes on.
 */

import type { CellTest, Cpu, Fence, Interrupt } from "../agent.js";
import { assert } from "../assert.js";
import type { Cell } from "../cell.js";
import {
  compareExchange,
  exchange,
  fetchAdd,
  fetchAnd,
  fetchOr,
  fetchXor,
} from "../cell-operations.js";
import type { Routine, Step, Suspension } from "../routine.js";
import type { WorkCode } from "../work.js";
import { describeWait, endWait, lookAt, mayResume, noWait, type Wait } from "./qemu-wait.js";
import { type QtestClient, WordSink } from "./qtest-client.js";

const SUSPENDED = { done: false, value: undefined as unknown as Suspension } as const;

/** What a CPU needs of its machine. */
export interface QemuHost {
  readonly client: QtestClient;
  nowNs: number;
  random(): number;
  raise(interrupt: Interrupt): void;
  armTimer(interrupt: Interrupt, atNs: number): void;
  cancelTimer(interrupt: Interrupt): boolean;
}

interface Activation {
  readonly routine: Routine<unknown>;
  /** The wait of the activation below, put back when this one ends. */
  readonly below: Wait;
}

export class QemuCpu implements Cpu {
  readonly id: number;
  readonly name: string;
  hi = 0;
  readonly #host: QemuHost;
  readonly #client: QtestClient;
  readonly #activations: Activation[] = [];
  readonly #interrupts: Interrupt[] = [];
  readonly #word = new WordSink();
  readonly #result = { done: true as const, value: 0 as number };
  readonly #done: Step<number>;
  readonly #waiting: Step<number>;
  #irqDisableDepth = 0;
  #wait: Wait = noWait();
  /** Of a compare-exchange under way: done when the reply is there. */
  #exchange: (() => void) | undefined;

  constructor(host: QemuHost, id: number) {
    this.#host = host;
    this.#client = host.client;
    this.id = id;
    this.name = `cpu${id}`;
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

  /** Whether replies are what it waits for. */
  get awaitsReply(): boolean {
    return this.#activations.length > 0 && this.#wait.reply;
  }

  /** When a timed wait ends; infinity when no time is waited for. */
  get wakeNs(): number {
    const { untilNs } = this.#wait;
    return this.#activations.length > 0 && untilNs >= 0 ? untilNs : Number.POSITIVE_INFINITY;
  }

  begin(routine: Routine<unknown>): void {
    assert(this.#activations.length === 0, `${this.name} is free for a routine`);
    this.#activations.push({ routine, below: noWait() });
  }

  /** Gives up what is under way: something failed, and the CPU is to be free again. */
  abandon(): void {
    this.#activations.length = 0;
    this.#interrupts.length = 0;
    this.#wait = noWait();
    this.#exchange = undefined;
    this.#irqDisableDepth = 0;
  }

  raiseLocal(interrupt: Interrupt): void {
    if (!this.#interrupts.includes(interrupt)) this.#interrupts.push(interrupt);
  }

  canRun(): boolean {
    if (this.#takesInterrupt()) return true;
    return (
      this.#activations.length > 0 &&
      mayResume(this.#wait, this.#client.outstanding, this.#host.nowNs)
    );
  }

  /** Runs until it has to wait or has nothing left to do. */
  turn(): void {
    while (this.canRun()) {
      if (this.#takesInterrupt()) this.#enterInterrupt();
      const top = this.#activations[this.#activations.length - 1];
      // What it throws goes to whoever made the call, and ends it.
      if (top.routine.next().done !== true) continue;
      this.#activations.pop();
      this.#wait = top.below;
    }
  }

  describeWait(): string {
    return this.#activations.length === 0 ? "" : `${this.name} ${describeWait(this.#wait)}`;
  }

  /** An interrupt is taken between accesses: not while the reply to one is under way. */
  #takesInterrupt(): boolean {
    return this.#interrupts.length > 0 && this.#irqDisableDepth === 0 && !this.awaitsReply;
  }

  #enterInterrupt(): void {
    const interrupt = this.#interrupts.shift() as Interrupt;
    this.#activations.push({ routine: interrupt.handler(this), below: this.#wait });
    this.#wait = noWait();
  }

  /** Called when the routine resumes in a wait: finishes it, or stays suspended. */
  #tryFinish(): boolean {
    if (!mayResume(this.#wait, this.#client.outstanding, this.#host.nowNs)) return false;
    const { reply, cell, address } = this.#wait;
    if (reply) {
      this.#wait.reply = false;
      this.#finishRead();
      if (address >= 0) return lookAt(this.#wait, this.#result.value, this.#host.nowNs);
    } else if (address >= 0) {
      this.#readWord("l", address);
      return false;
    } else if (cell !== undefined) this.#result.value = cell.value;
    endWait(this.#wait);
    return true;
  }

  #finishRead(): void {
    this.hi = this.#word.hi;
    this.#result.value = this.#word.lo;
    this.#exchange?.();
    this.#exchange = undefined;
  }

  #finish(value: number): Step<number> {
    this.#result.value = value;
    return this.#done;
  }

  #nothing(): Step<void> {
    return this.#done as unknown as Step<void>;
  }

  #readWord(width: string, address: number): Step<number> {
    this.#client.read(width, address, this.#word);
    this.#wait.reply = true;
    return this.#waiting;
  }

  #writeWord(width: string, address: number, value: number): Step<void> {
    this.#client.write(width, address, (value >>> 0).toString(16));
    return this.#nothing();
  }

  #writeQuad(address: number, lo: number, hi: number): Step<void> {
    const low = (lo >>> 0).toString(16);
    const high = hi >>> 0;
    this.#client.write("q", address, high === 0 ? low : high.toString(16) + low.padStart(8, "0"));
    return this.#nothing();
  }

  // --- shared variables: ours, and nobody runs while we do ---

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

  /** The socket keeps the order of all accesses. */
  fence(_kind: Fence): Step<void> {
    return this.#nothing();
  }

  waitUntil(cell: Cell, test: CellTest): Step<number> {
    if (test(cell.value)) return this.#finish(cell.value);
    this.#wait.cell = cell;
    this.#wait.test = test;
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
    return this.#readWord("b", address);
  }

  read16(address: number): Step<number> {
    return this.#readWord("w", address);
  }

  read32(address: number): Step<number> {
    return this.#readWord("l", address);
  }

  read64(address: number): Step<number> {
    return this.#readWord("q", address);
  }

  write8(address: number, value: number): Step<void> {
    return this.#writeWord("b", address, value & 0xff);
  }

  write16(address: number, value: number): Step<void> {
    return this.#writeWord("w", address, value & 0xffff);
  }

  write32(address: number, value: number): Step<void> {
    return this.#writeWord("l", address, value);
  }

  write64(address: number, lo: number, hi: number): Step<void> {
    return this.#writeQuad(address, lo, hi);
  }

  /** Atomic among our CPUs; no device of QEMU's changes a word that software exchanges. */
  compareExchange64(
    address: number,
    expectedLo: number,
    expectedHi: number,
    lo: number,
    hi: number,
  ): Step<number> {
    this.#exchange = () => {
      const matched = this.#word.lo === expectedLo >>> 0 && this.#word.hi === expectedHi >>> 0;
      if (matched) this.#writeQuad(address, lo, hi);
      this.#result.value = this.#word.lo;
    };
    return this.#readWord("q", address);
  }

  readBlock(address: number, target: Uint8Array): Step<void> {
    this.#client.readBlock(address, target);
    this.#wait.reply = true;
    return this.#waiting as unknown as Step<void>;
  }

  writeBlock(address: number, source: Uint8Array): Step<void> {
    this.#client.writeBlock(address, source);
    return this.#nothing();
  }

  fill(address: number, sizeBytes: number, byte: number): Step<void> {
    this.#client.fill(address, sizeBytes, byte);
    return this.#nothing();
  }

  waitUntilMemory32(address: number, test: CellTest, timeoutNs: number): Step<number> {
    this.#wait.address = address;
    this.#wait.test = test;
    this.#wait.lastNs = this.#host.nowNs + timeoutNs;
    return this.#readWord("l", address);
  }

  // --- registers: one bus for all ---

  readRegister32(address: number): Step<number> {
    return this.#readWord("l", address);
  }

  readRegister64(address: number): Step<number> {
    return this.#readWord("q", address);
  }

  writeRegister32(address: number, value: number): Step<void> {
    return this.#writeWord("l", address, value);
  }

  writeRegister64(address: number, lo: number, hi: number): Step<void> {
    return this.#writeQuad(address, lo, hi);
  }

  // --- time: ours; QEMU's own clock jumps to its next timer whenever it is idle ---

  work(_code: WorkCode, _count = 1): void {}

  workNs(_durationNs: number): void {}

  now(): number {
    return this.#host.nowNs;
  }

  delay(durationNs: number): Step<void> {
    return this.sleepUntil(this.#host.nowNs + durationNs);
  }

  sleepUntil(atNs: number): Step<void> {
    this.#wait.untilNs = atNs;
    return this.#waiting as unknown as Step<void>;
  }

  random(): number {
    return this.#host.random();
  }

  raise(interrupt: Interrupt): void {
    this.#host.raise(interrupt);
  }

  armTimer(interrupt: Interrupt, delayNs: number): void {
    this.#host.armTimer(interrupt, this.#host.nowNs + delayNs);
  }

  cancelTimer(interrupt: Interrupt): boolean {
    return this.#host.cancelTimer(interrupt);
  }

  irqDisable(): void {
    this.#irqDisableDepth++;
  }

  irqEnable(): void {
    assert(this.#irqDisableDepth > 0, "interrupts are enabled as often as they were disabled");
    this.#irqDisableDepth--;
  }
}
