/**
 * What routines see of an agent of the timed machine: a CPU, or hardware without a cache.
 *
 * Each access notes its operands in the agent's `Access` and is issued: performed at once
 * while the clock is within the horizon, otherwise after the machine resumed the agent.
 * What hits the CPU's own cache and may happen at once is not noted first. `TimedCpu` owns
 * nothing but `hi`.
 */

import type { CellTest, Cpu, Fence, Interrupt } from "./agent.js";
import type { Cell } from "./cell.js";
import type { MachineCosts } from "./cost.js";
import type { PhysicalMemory } from "./memory.js";
import type { PollPauses } from "./poll-register.js";
import type { Routine, Step } from "./routine.js";
import type { TimedMachine } from "./timed.js";
import { type Access, type AccessStep, Op, type OpCode } from "./timed-access.js";
import type { TimedAgent } from "./timed-agent.js";
import type { LoadStoreUnit } from "./timed-load-store.js";
import { NOT_BEGUN } from "./timed-poll.js";
import type { StoreUnit } from "./timed-stores.js";
import { WORK_NAMES, type WorkCode } from "./work.js";

/**
 * A pause of a few instructions (cpu_relax() in a spin loop) passes like work: nothing happens
 * at its end, and the next access waits for its turn.
 */
const RELAX_MAX_NS = 20;

export class TimedCpu implements Cpu {
  readonly id: number;
  readonly name: string;
  hi = 0;
  readonly #agent: TimedAgent;
  readonly #access: Access;
  readonly #unit: LoadStoreUnit;
  readonly #stores: StoreUnit;
  readonly #machine: TimedMachine;
  readonly #memory: PhysicalMemory;
  readonly #isCpu: boolean;
  readonly #costs: MachineCosts;
  readonly #hitNs: number;
  readonly #workNs: Float64Array;
  readonly #result: { value: number };
  readonly #step: AccessStep;

  constructor(machine: TimedMachine, agent: TimedAgent, unit: LoadStoreUnit) {
    this.id = agent.id;
    this.name = agent.name;
    this.#agent = agent;
    this.#access = agent.access;
    this.#unit = unit;
    this.#stores = unit.stores;
    this.#machine = machine;
    this.#memory = machine.memory;
    this.#isCpu = agent.cache !== undefined;
    this.#costs = machine.costs;
    this.#hitNs = machine.costs.cpu.hitNs;
    // Hardware charges its own timing with workNs; the CPU's work costs are not its.
    this.#workNs = Float64Array.from(WORK_NAMES, (work) =>
      this.#isCpu ? machine.costs.workNs[work] : 0,
    );
    this.#result = agent.step.result;
    this.#step = agent.step;
  }

  // --- how an access is noted, or done right here ---

  #done(): Step<number> {
    this.#step.isPerformed = true;
    return this.#step;
  }

  #change(cell: Cell, value: number): Step<number> {
    this.#result.value = cell.value;
    this.#stores.change(cell, value);
    return this.#done();
  }

  #onCell(op: OpCode, cell: Cell, a: number): Step<number> {
    const access = this.#access;
    access.op = op;
    access.cell = cell;
    access.a = a;
    return this.#agent.issue();
  }

  #onMemory(op: OpCode, address: number, a: number, b: number): Step<number> {
    const access = this.#access;
    access.op = op;
    access.address = address;
    access.a = a;
    access.b = b;
    return this.#agent.issue();
  }

  #onBlock(op: OpCode, address: number, block: Uint8Array): Step<void> {
    const access = this.#access;
    access.op = op;
    access.address = address;
    access.block = block;
    return this.#agent.issue() as unknown as Step<void>;
  }

  #wait(cell: Cell, test: CellTest, idle: boolean): Step<number> {
    const access = this.#access;
    access.op = Op.waitUntil;
    access.cell = cell;
    access.test = test;
    access.idle = idle;
    return this.#agent.issue();
  }

  #sleepUntil(atNs: number, idle: boolean): Step<void> {
    const access = this.#access;
    access.op = Op.sleep;
    access.a = atNs;
    access.idle = idle;
    return this.#agent.issue() as unknown as Step<void>;
  }

  #readRegister(address: number, widthBytes: number): Step<number> {
    const access = this.#access;
    access.op = Op.readRegister;
    access.address = address;
    access.c = widthBytes;
    // The value is that of the moment when the request has arrived at the device.
    this.#agent.clockNs += this.#costs.register.readNs / 2;
    return this.#agent.issue();
  }

  #writeRegister(address: number, lo: number, hi: number, widthBytes: number): Step<void> {
    this.#access.c = widthBytes;
    return this.#onMemory(Op.writeRegister, address, lo, hi) as unknown as Step<void>;
  }

  // --- shared variables ---

  load(cell: Cell): Step<number> {
    if (this.#unit.mayHit(cell.line.id)) {
      this.#agent.clockNs += this.#hitNs;
      this.#result.value = cell.value;
      return this.#done();
    }
    return this.#onCell(Op.load, cell, 0);
  }

  loadAcquire(cell: Cell): Step<number> {
    return this.load(cell);
  }

  store(cell: Cell, value: number): Step<void> {
    if (this.#stores.mayHit(cell.line.id)) {
      this.#stores.store(cell, value, false);
      return this.#done() as unknown as Step<void>;
    }
    return this.#onCell(Op.store, cell, value) as unknown as Step<void>;
  }

  storeRelease(cell: Cell, value: number): Step<void> {
    if (this.#stores.mayHit(cell.line.id)) {
      this.#stores.store(cell, value, true);
      return this.#done() as unknown as Step<void>;
    }
    return this.#onCell(Op.storeRelease, cell, value) as unknown as Step<void>;
  }

  compareExchange(cell: Cell, expected: number, desired: number): Step<number> {
    const found = cell.value;
    if (this.#stores.mayHit(cell.line.id)) {
      return this.#change(cell, found === expected ? desired : found);
    }
    this.#access.b = desired;
    return this.#onCell(Op.compareExchange, cell, expected);
  }

  exchange(cell: Cell, value: number): Step<number> {
    return this.#onCell(Op.exchange, cell, value);
  }

  fetchAdd(cell: Cell, addend: number): Step<number> {
    if (this.#stores.mayHit(cell.line.id)) return this.#change(cell, cell.value + addend);
    return this.#onCell(Op.fetchAdd, cell, addend);
  }

  fetchOr(cell: Cell, bits: number): Step<number> {
    return this.#onCell(Op.fetchOr, cell, bits);
  }

  fetchAnd(cell: Cell, bits: number): Step<number> {
    return this.#onCell(Op.fetchAnd, cell, bits);
  }

  fetchXor(cell: Cell, bits: number): Step<number> {
    return this.#onCell(Op.fetchXor, cell, bits);
  }

  fence(kind: Fence): Step<void> {
    if (kind === "full") {
      if (this.#agent.clockNs - this.#machine.horizonNs <= this.#agent.lookaheadNs) {
        this.#stores.fence();
        return this.#done() as unknown as Step<void>;
      }
      this.#access.op = Op.fullFence;
      return this.#agent.issue() as unknown as Step<void>;
    }
    this.#agent.clockNs += this.#costs.cpu.orderFenceNs;
    return this.#done() as unknown as Step<void>;
  }

  waitUntil(cell: Cell, test: CellTest): Step<number> {
    return this.#wait(cell, test, false);
  }

  idleUntil(cell: Cell, test: CellTest): Step<number> {
    return this.#wait(cell, test, true);
  }

  poke(cell: Cell, value: number): void {
    this.#unit.registers.poke(cell, value);
  }

  // --- memory ---

  read8(address: number): Step<number> {
    return this.#onMemory(Op.read, address, 1, 0);
  }

  read16(address: number): Step<number> {
    return this.#onMemory(Op.read, address, 2, 0);
  }

  read32(address: number): Step<number> {
    return this.#onMemory(Op.read, address, 4, 0);
  }

  read64(address: number): Step<number> {
    if (this.#unit.mayHit(this.#unit.lineAt(address))) {
      this.#agent.clockNs += this.#hitNs;
      this.#result.value = this.#memory.read64(address);
      this.hi = this.#memory.hi;
      return this.#done();
    }
    return this.#onMemory(Op.read64, address, 0, 0);
  }

  write8(address: number, value: number): Step<void> {
    return this.#onMemory(Op.write, address, value, 1) as unknown as Step<void>;
  }

  write16(address: number, value: number): Step<void> {
    return this.#onMemory(Op.write, address, value, 2) as unknown as Step<void>;
  }

  write32(address: number, value: number): Step<void> {
    return this.#onMemory(Op.write, address, value, 4) as unknown as Step<void>;
  }

  write64(address: number, lo: number, hi: number): Step<void> {
    const line = this.#unit.lineAt(address);
    if (this.#stores.mayHit(line)) {
      this.#stores.write64(line, address, lo, hi);
      return this.#done() as unknown as Step<void>;
    }
    return this.#onMemory(Op.write64, address, lo, hi) as unknown as Step<void>;
  }

  writeWords(address: number, halves: Uint32Array, first: number, count: number): Step<void> {
    this.#access.halves = halves;
    return this.#onMemory(Op.writeWords, address, first, count) as unknown as Step<void>;
  }

  compareExchange64(
    address: number,
    expectedLo: number,
    expectedHi: number,
    lo: number,
    hi: number,
  ): Step<number> {
    this.#access.c = lo;
    this.#access.d = hi;
    return this.#onMemory(Op.compareExchange64, address, expectedLo, expectedHi);
  }

  readBlock(address: number, target: Uint8Array): Step<void> {
    return this.#onBlock(Op.readBlock, address, target);
  }

  writeBlock(address: number, source: Uint8Array): Step<void> {
    return this.#onBlock(Op.writeBlock, address, source);
  }

  fill(address: number, sizeBytes: number, byte: number): Step<void> {
    return this.#onMemory(Op.fill, address, sizeBytes, byte) as unknown as Step<void>;
  }

  waitUntilMemory32(address: number, test: CellTest, timeoutNs: number): Step<number> {
    this.#access.cell = undefined;
    this.#access.test = test;
    return this.#onMemory(Op.waitUntilMemory32, address, this.#agent.clockNs + timeoutNs, 0);
  }

  // --- registers ---

  readRegister32(address: number): Step<number> {
    return this.#readRegister(address, 4);
  }

  pollRegister32(address: number, test: CellTest, pauses: PollPauses): Step<number> {
    const access = this.#access;
    access.test = test;
    access.pauses = pauses;
    access.c = NOT_BEGUN;
    const arrivalNs = this.#agent.clockNs + this.#costs.register.readNs / 2;
    return this.#onMemory(Op.pollRegister, address, arrivalNs, 0);
  }

  readRegister64(address: number): Step<number> {
    return this.#readRegister(address, 8);
  }

  writeRegister32(address: number, value: number): Step<void> {
    return this.#writeRegister(address, value, 0, 4);
  }

  writeRegister64(address: number, lo: number, hi: number): Step<void> {
    return this.#writeRegister(address, lo, hi, 8);
  }

  // --- time, chance and interrupts ---

  alone<T>(routine: Routine<T>): Step<T> {
    return this.#agent.alone(routine);
  }

  work(code: WorkCode, count = 1): void {
    this.#agent.clockNs += this.#workNs[code] * count;
  }

  workNs(durationNs: number): void {
    this.#agent.clockNs += durationNs;
  }

  now(): number {
    return this.#agent.clockNs;
  }

  delay(durationNs: number): Step<void> {
    const agent = this.#agent;
    if (durationNs <= RELAX_MAX_NS && this.#isCpu) {
      agent.clockNs += durationNs;
      agent.lookaheadNs = 0;
      return this.#done() as unknown as Step<void>;
    }
    return this.#sleepUntil(agent.clockNs + durationNs, false);
  }

  sleepUntil(atNs: number): Step<void> {
    return this.#sleepUntil(atNs, true);
  }

  random(): number {
    return this.#machine.random.next();
  }

  raise(interrupt: Interrupt): void {
    this.#machine.raise(interrupt, this.#agent.clockNs);
  }

  armTimer(interrupt: Interrupt, delayNs: number): void {
    this.#machine.armTimer(interrupt, this.#agent.clockNs, delayNs);
  }

  cancelTimer(interrupt: Interrupt): boolean {
    return this.#machine.timers.cancel(interrupt);
  }

  irqDisable(): void {
    this.#agent.irqDisable();
  }

  irqEnable(): void {
    this.#agent.irqEnable();
  }
}
