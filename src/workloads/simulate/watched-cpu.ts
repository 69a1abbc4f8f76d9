/**
 * A CPU that accounts for its time: passes everything on, and notes how far the clock moved and
 * for what. Time of interrupt handlers within an access is theirs and not the access's.
 */

import type {
  Cell,
  CellTest,
  Cpu,
  CpuWatch,
  Fence,
  Interrupt,
  PhysicalAddress,
  PollPauses,
  Routine,
  Step,
  WorkCode,
} from "#machine";
import { assert, WORK_NAMES } from "#machine";
import {
  type Purpose,
  purposeOfName,
  type WhyAccounts,
  WORK_PURPOSES,
  withoutNumbers,
} from "./why.js";

/** A stretch of memory whose purpose is known; other memory in DMA calls is page tables. */
export interface NamedMemory {
  readonly first: PhysicalAddress;
  readonly last: PhysicalAddress;
  readonly purpose: Purpose;
  readonly name: string;
}

/** What a handler interrupted. */
interface Interrupted {
  readonly frames: string[];
  readonly ownNs: number;
}

/** What waits for its line at least so long had to fetch it. */
export interface WatchOptions {
  readonly accounts: WhyAccounts;
  readonly memory: readonly NamedMemory[];
  readonly transferNsMin: number;
}

export class WatchedCpu implements CpuWatch {
  readonly #cpu: Cpu;
  readonly #options: WatchOptions;
  #frames: string[] = ["job"];
  #path = "job";
  /** Time of handlers that have ended: it is not that of the access they came in. */
  #foreignNs = 0;
  readonly #interrupted: Interrupted[] = [];
  /** The lock that was asked for last: whose queue the CPU stands in. */
  #lock: Purpose = "other";

  constructor(cpu: Cpu, options: WatchOptions) {
    this.#cpu = cpu;
    this.#options = options;
  }

  get id(): number {
    return this.#cpu.id;
  }

  get name(): string {
    return this.#cpu.name;
  }

  get hi(): number {
    return this.#cpu.hi;
  }

  set hi(value: number) {
    this.#cpu.hi = value;
  }

  // --- where the CPU is ---

  /** Enters a call; `leave` ends it. */
  enter(frame: string): void {
    this.#frames.push(frame);
    this.#path = this.#frames.join(";");
  }

  leave(): void {
    this.#frames.pop();
    this.#path = this.#frames.join(";");
  }

  enterInterrupt(interrupt: Interrupt): void {
    this.#interrupted.push({ frames: this.#frames, ownNs: this.#ownNs() });
    this.#frames = [withoutNumbers(interrupt.name)];
    this.#path = this.#frames[0];
  }

  leaveInterrupt(): void {
    const { frames, ownNs } = this.#interrupted.pop() as Interrupted;
    this.#frames = frames;
    this.#path = this.#frames.join(";");
    this.#foreignNs = this.#cpu.now() - ownNs;
  }

  /** The clock without the time of handlers that have ended. */
  #ownNs(): number {
    return this.#cpu.now() - this.#foreignNs;
  }

  #add(purpose: Purpose, what: string, ns: number): void {
    this.#options.accounts.add(this.#cpu.now(), this.#path, purpose, what, ns);
  }

  *#step<T>(step: Step<T>, startNs: number, purpose: Purpose, what: string): Routine<T> {
    const value = yield* step;
    this.#add(purpose, what, this.#ownNs() - startNs);
    return value;
  }

  /** The same for an access to a line, which it may have to fetch. */
  *#access<T>(step: Step<T>, startNs: number, purpose: Purpose, what: string): Routine<T> {
    const value = yield* step;
    const ns = this.#ownNs() - startNs;
    this.#add(purpose, what, ns);
    const { accounts, transferNsMin } = this.#options;
    if (ns >= transferNsMin) accounts.addTransfer(this.#cpu.now(), what, ns);
    return value;
  }

  // --- shared variables ---

  #onCell<T>(cell: Cell, startNs: number, step: Step<T>): Step<T> {
    const name = withoutNumbers(cell.line.name);
    const purpose = name.startsWith("spin node") ? this.#lock : purposeOfName(name);
    this.#lock = purpose;
    return this.#access(step, startNs, purpose, name);
  }

  load(cell: Cell): Step<number> {
    const startNs = this.#ownNs();
    return this.#onCell(cell, startNs, this.#cpu.load(cell));
  }

  loadAcquire(cell: Cell): Step<number> {
    const startNs = this.#ownNs();
    return this.#onCell(cell, startNs, this.#cpu.loadAcquire(cell));
  }

  store(cell: Cell, value: number): Step<void> {
    const startNs = this.#ownNs();
    return this.#onCell(cell, startNs, this.#cpu.store(cell, value));
  }

  storeRelease(cell: Cell, value: number): Step<void> {
    const startNs = this.#ownNs();
    return this.#onCell(cell, startNs, this.#cpu.storeRelease(cell, value));
  }

  compareExchange(cell: Cell, expected: number, desired: number): Step<number> {
    const startNs = this.#ownNs();
    return this.#onCell(cell, startNs, this.#cpu.compareExchange(cell, expected, desired));
  }

  exchange(cell: Cell, value: number): Step<number> {
    const startNs = this.#ownNs();
    return this.#onCell(cell, startNs, this.#cpu.exchange(cell, value));
  }

  fetchAdd(cell: Cell, addend: number): Step<number> {
    const startNs = this.#ownNs();
    return this.#onCell(cell, startNs, this.#cpu.fetchAdd(cell, addend));
  }

  fetchOr(cell: Cell, bits: number): Step<number> {
    const startNs = this.#ownNs();
    return this.#onCell(cell, startNs, this.#cpu.fetchOr(cell, bits));
  }

  fetchAnd(cell: Cell, bits: number): Step<number> {
    const startNs = this.#ownNs();
    return this.#onCell(cell, startNs, this.#cpu.fetchAnd(cell, bits));
  }

  fetchXor(cell: Cell, bits: number): Step<number> {
    const startNs = this.#ownNs();
    return this.#onCell(cell, startNs, this.#cpu.fetchXor(cell, bits));
  }

  waitUntil(cell: Cell, test: CellTest): Step<number> {
    const startNs = this.#ownNs();
    return this.#onCell(cell, startNs, this.#cpu.waitUntil(cell, test));
  }

  /** Idle time is nobody's. */
  idleUntil(cell: Cell, test: CellTest): Step<number> {
    return this.#cpu.idleUntil(cell, test);
  }

  poke(cell: Cell, value: number): void {
    this.#cpu.poke(cell, value);
  }

  fence(kind: Fence): Step<void> {
    const startNs = this.#ownNs();
    return this.#step(this.#cpu.fence(kind), startNs, this.#inCall("DMA API"), "barrier");
  }

  // --- memory ---

  /** Outside of the DMA API it is the I/O path's. */
  #inCall(purpose: Purpose): Purpose {
    const isInCall = this.#frames.length > 1 || this.#frames[0].startsWith("flush");
    return isInCall ? purpose : "I/O path";
  }

  #onMemory<T>(address: PhysicalAddress, startNs: number, step: Step<T>): Step<T> {
    for (const { first, last, purpose, name } of this.#options.memory) {
      if (address >= first && address <= last) return this.#access(step, startNs, purpose, name);
    }
    const purpose = this.#inCall("page table");
    return this.#access(step, startNs, purpose, purpose === "I/O path" ? "queues" : "entries");
  }

  read8(address: PhysicalAddress): Step<number> {
    const startNs = this.#ownNs();
    return this.#onMemory(address, startNs, this.#cpu.read8(address));
  }

  read16(address: PhysicalAddress): Step<number> {
    const startNs = this.#ownNs();
    return this.#onMemory(address, startNs, this.#cpu.read16(address));
  }

  read32(address: PhysicalAddress): Step<number> {
    const startNs = this.#ownNs();
    return this.#onMemory(address, startNs, this.#cpu.read32(address));
  }

  read64(address: PhysicalAddress): Step<number> {
    const startNs = this.#ownNs();
    return this.#onMemory(address, startNs, this.#cpu.read64(address));
  }

  write8(address: PhysicalAddress, value: number): Step<void> {
    const startNs = this.#ownNs();
    return this.#onMemory(address, startNs, this.#cpu.write8(address, value));
  }

  write16(address: PhysicalAddress, value: number): Step<void> {
    const startNs = this.#ownNs();
    return this.#onMemory(address, startNs, this.#cpu.write16(address, value));
  }

  write32(address: PhysicalAddress, value: number): Step<void> {
    const startNs = this.#ownNs();
    return this.#onMemory(address, startNs, this.#cpu.write32(address, value));
  }

  write64(address: PhysicalAddress, lo: number, hi: number): Step<void> {
    const startNs = this.#ownNs();
    return this.#onMemory(address, startNs, this.#cpu.write64(address, lo, hi));
  }

  compareExchange64(
    address: PhysicalAddress,
    expectedLo: number,
    expectedHi: number,
    lo: number,
    hi: number,
  ): Step<number> {
    const startNs = this.#ownNs();
    const step = this.#cpu.compareExchange64(address, expectedLo, expectedHi, lo, hi);
    return this.#onMemory(address, startNs, step);
  }

  readBlock(address: PhysicalAddress, target: Uint8Array): Step<void> {
    const startNs = this.#ownNs();
    return this.#onMemory(address, startNs, this.#cpu.readBlock(address, target));
  }

  writeBlock(address: PhysicalAddress, source: Uint8Array): Step<void> {
    const startNs = this.#ownNs();
    return this.#onMemory(address, startNs, this.#cpu.writeBlock(address, source));
  }

  fill(address: PhysicalAddress, sizeBytes: number, byte: number): Step<void> {
    const startNs = this.#ownNs();
    return this.#onMemory(address, startNs, this.#cpu.fill(address, sizeBytes, byte));
  }

  /** On a CPU this is how a CMD_SYNC is waited for. */
  waitUntilMemory32(address: PhysicalAddress, test: CellTest, timeoutNs: number): Step<number> {
    const startNs = this.#ownNs();
    const step = this.#cpu.waitUntilMemory32(address, test, timeoutNs);
    return this.#step(step, startNs, "waiting for SYNC", "message");
  }

  // --- registers ---

  readRegister32(address: PhysicalAddress): Step<number> {
    const startNs = this.#ownNs();
    return this.#onRegister(startNs, this.#cpu.readRegister32(address));
  }

  readRegister64(address: PhysicalAddress): Step<number> {
    const startNs = this.#ownNs();
    return this.#onRegister(startNs, this.#cpu.readRegister64(address));
  }

  pollRegister32(address: PhysicalAddress, test: CellTest, pauses: PollPauses): Step<number> {
    const startNs = this.#ownNs();
    const polling = this.#cpu.pollRegister32?.(address, test, pauses);
    assert(polling !== undefined, "the CPUs of the timed machine poll by themselves");
    return this.#step(polling, startNs, this.#inCall("waiting for SYNC"), "register polls");
  }

  /** The DMA API reads registers to see how far the SMMU is. */
  #onRegister(startNs: number, step: Step<number>): Step<number> {
    return this.#step(step, startNs, this.#inCall("waiting for SYNC"), "register read");
  }

  writeRegister32(address: PhysicalAddress, value: number): Step<void> {
    const startNs = this.#ownNs();
    const step = this.#cpu.writeRegister32(address, value);
    return this.#step(step, startNs, this.#inCall("queue insertion"), "doorbell");
  }

  writeRegister64(address: PhysicalAddress, lo: number, hi: number): Step<void> {
    const startNs = this.#ownNs();
    const step = this.#cpu.writeRegister64(address, lo, hi);
    return this.#step(step, startNs, this.#inCall("queue insertion"), "doorbell");
  }

  // --- time, chance and interrupts ---

  work(code: WorkCode, count = 1): void {
    const startNs = this.#cpu.now();
    this.#cpu.work(code, count);
    const name = WORK_NAMES[code];
    this.#add(WORK_PURPOSES[name], name, this.#cpu.now() - startNs);
  }

  workNs(durationNs: number): void {
    this.#cpu.workNs(durationNs);
    this.#add(this.#inCall("other"), "work", durationNs);
  }

  now(): number {
    return this.#cpu.now();
  }

  delay(durationNs: number): Step<void> {
    const startNs = this.#ownNs();
    const step = this.#cpu.delay(durationNs);
    return this.#step(step, startNs, this.#inCall("waiting for SYNC"), "pause");
  }

  sleepUntil(atNs: number): Step<void> {
    return this.#cpu.sleepUntil(atNs);
  }

  random(): number {
    return this.#cpu.random();
  }

  raise(interrupt: Interrupt): void {
    this.#cpu.raise(interrupt);
  }

  armTimer(interrupt: Interrupt, delayNs: number): void {
    this.#cpu.armTimer(interrupt, delayNs);
  }

  cancelTimer(interrupt: Interrupt): boolean {
    return this.#cpu.cancelTimer(interrupt);
  }

  irqDisable(): void {
    this.#cpu.irqDisable();
  }

  irqEnable(): void {
    this.#cpu.irqEnable();
  }
}
