/**
 * An agent of the explored machine: the face that routines see.
 *
 * An access is announced, and performed when the machine's chooser picks this agent; if it picks
 * it at once, the routine is not even suspended. Work, delays and fences of an empty buffer
 * happen at once.
 *
 * `ExploredMachine` owns the agents. An agent owns its pending operation and, if
 * it is a CPU of a machine with store buffers, its buffer; `Performer` performs the operation.
 */

import type { AtomicOrder, CellTest, Cpu, Fence, Interrupt } from "../agent.js";
import { assert } from "../assert.js";
import type { Cell } from "../cell.js";
import { Random } from "../random.js";
import type { Step, Suspension } from "../routine.js";
import type { WorkCode } from "../work.js";
import { Thing } from "./locations.js";
import type { ExploredMachine } from "./machine.js";
import { OP_NAMES, Op, type OpCode, Operation } from "./operation.js";
import { Performer } from "./performer.js";
import { PollGate } from "./poll-gate.js";
import { Routines } from "./routines.js";
import { StoreBuffer } from "./store-buffer.js";
import { isBuffered } from "./storing.js";

const SUSPENDED = { done: false, value: undefined as unknown as Suspension } as const;

export class ExploredAgent implements Cpu {
  readonly id: number;
  readonly name: string;
  readonly isCpu: boolean;
  hi = 0;
  readonly operation = new Operation();
  readonly routines = new Routines(this);
  /** The operation is announced and not yet performed. */
  isPending = false;
  /** Stores that others do not see yet; undefined where accesses are in order. */
  readonly buffer: StoreBuffer | undefined;
  readonly gate: PollGate | undefined;
  irqDepth = 0;
  /** Whether interrupts are enabled, as something that accesses depend on. */
  readonly irq: Thing;
  /** Interrupts that this agent was the first to arm, in this execution. */
  armedFirst = 0;
  readonly result = { done: true as const, value: 0 as number };
  /** Events that the next one of this agent follows. */
  readonly joins: number[] = [];
  readonly #machine: ExploredMachine;
  readonly performer: Performer;
  readonly #step: Step<number>;
  readonly #done: Step<number>;
  #random = new Random(1);
  #clockNs = 0;

  constructor(machine: ExploredMachine, id: number, name: string, isCpu: boolean) {
    this.#machine = machine;
    this.id = id;
    this.name = name;
    this.isCpu = isCpu;
    const buffered = isCpu && machine.memoryModel !== "sc";
    this.buffer = buffered ? new StoreBuffer(machine.memoryModel) : undefined;
    this.gate = isCpu ? new PollGate() : undefined;
    this.irq = new Thing(`${name} interrupts`);
    this.performer = new Performer(machine, this);
    const result = this.result;
    const step = { next: () => this.#advance(), [Symbol.iterator]: () => step };
    const done = { next: () => result, [Symbol.iterator]: () => done };
    this.#step = step;
    this.#done = done;
  }

  // --- what the machine asks ---

  /** As new, for another execution. */
  reset(): void {
    this.isPending = false;
    this.buffer?.clear();
    this.gate?.reset();
    this.irqDepth = 0;
    this.armedFirst = 0;
    this.joins.length = 0;
    this.routines.reset();
    this.#random = new Random(this.id + 1);
    this.#clockNs = 0;
  }

  /** Whether its announced operation can be performed now. */
  canAct(): boolean {
    return this.isPending && this.performer.canPerform();
  }

  /** Whether its operation is on a cell; on memory or a register. */
  get isOnCell(): boolean {
    return this.operation.op <= Op.waitUntil;
  }

  /** Whether its operation only puts a store into its buffer. */
  get isBuffered(): boolean {
    return isBuffered(this);
  }

  get isOnAddress(): boolean {
    return !this.isOnCell && this.operation.op !== Op.fullFence && this.operation.op !== Op.choose;
  }

  /** What its routine is at, in words. */
  describe(): string {
    if (!this.isPending) return "running";
    const { op, cell, address } = this.operation;
    if (this.gate?.isClosed) return `polling in vain, at ${OP_NAMES[op]}`;
    if (this.isOnCell) return `at ${OP_NAMES[op]} ${cell?.name}`;
    return `at ${OP_NAMES[op]}${this.isOnAddress ? ` 0x${address.toString(16)}` : ""}`;
  }

  /** What it waits for goes into the machine's footprint; returns whether it waits at all. */
  noteWait(): boolean {
    return this.isPending && this.performer.noteWait();
  }

  /** It waits for its own stores to become visible; notes the place that its operation is on. */
  noteOwnWait(): boolean {
    if (!this.isPending || this.canAct() || this.performer.noteWait()) return false;
    this.performer.notePlace();
    return true;
  }

  // --- the step ---

  #advance(): { done: true; value: number } | typeof SUSPENDED {
    const machine = this.#machine;
    if (machine.granted !== this) {
      this.isPending = true;
      this.performer.number();
      if (machine.announce(this) !== this) return SUSPENDED;
    }
    machine.granted = undefined;
    this.isPending = false;
    this.result.value = this.performer.perform();
    return this.result;
  }

  #finish(value: number): Step<number> {
    this.result.value = value;
    return this.#done;
  }

  #nothing(): Step<void> {
    return this.#done as unknown as Step<void>;
  }

  #onCell(op: OpCode, cell: Cell, a: number, b: number): Step<number> {
    const operation = this.operation;
    operation.op = op;
    operation.cell = cell;
    operation.a = a;
    operation.b = b;
    return this.#step;
  }

  #atomic(op: OpCode, cell: Cell, a: number, b: number, order?: AtomicOrder): Step<number> {
    this.operation.isRelaxed = isRelaxed(order);
    return this.#onCell(op, cell, a, b);
  }

  #onAddress(op: OpCode, address: number, sizeBytes: number, a = 0, b = 0): Step<number> {
    const operation = this.operation;
    operation.op = op;
    operation.address = address;
    operation.sizeBytes = sizeBytes;
    operation.a = a;
    operation.b = b;
    return this.#step;
  }

  #asVoid(step: Step<number>): Step<void> {
    return step as unknown as Step<void>;
  }

  // --- shared variables ---

  load(cell: Cell): Step<number> {
    return this.#onCell(Op.load, cell, 0, 0);
  }

  loadAcquire(cell: Cell): Step<number> {
    // Loads are performed in program order, each at once: every one is an acquire.
    return this.#onCell(Op.load, cell, 0, 0);
  }

  store(cell: Cell, value: number): Step<void> {
    return this.#asVoid(this.#onCell(Op.store, cell, value, 0));
  }

  storeRelease(cell: Cell, value: number): Step<void> {
    return this.#asVoid(this.#onCell(Op.store, cell, value, 1));
  }

  compareExchange(
    cell: Cell,
    expected: number,
    desired: number,
    order?: AtomicOrder,
  ): Step<number> {
    return this.#atomic(Op.compareExchange, cell, expected, desired, order);
  }

  exchange(cell: Cell, value: number, order?: AtomicOrder): Step<number> {
    return this.#atomic(Op.exchange, cell, value, 0, order);
  }

  fetchAdd(cell: Cell, addend: number, order?: AtomicOrder): Step<number> {
    return this.#atomic(Op.fetchAdd, cell, addend, 0, order);
  }

  fetchOr(cell: Cell, bits: number, order?: AtomicOrder): Step<number> {
    return this.#atomic(Op.fetchOr, cell, bits, 0, order);
  }

  fetchAnd(cell: Cell, bits: number, order?: AtomicOrder): Step<number> {
    return this.#atomic(Op.fetchAnd, cell, bits, 0, order);
  }

  fetchXor(cell: Cell, bits: number, order?: AtomicOrder): Step<number> {
    return this.#atomic(Op.fetchXor, cell, bits, 0, order);
  }

  fence(kind: Fence): Step<void> {
    const buffer = this.buffer;
    if (buffer === undefined) return this.#nothing();
    if (kind === "full") {
      this.operation.op = Op.fullFence;
      if (!buffer.isEmpty) return this.#asVoid(this.#step);
      this.performer.leaveBuffer();
    } else if (kind !== "read") buffer.writeFence();
    return this.#nothing();
  }

  waitUntil(cell: Cell, test: CellTest): Step<number> {
    this.operation.test = test;
    return this.#onCell(Op.waitUntil, cell, 0, 0);
  }

  idleUntil(cell: Cell, test: CellTest): Step<number> {
    return this.waitUntil(cell, test);
  }

  poke(cell: Cell, value: number): void {
    const machine = this.#machine;
    machine.footprint.write(machine.locations.ofCell(cell), cell.value, 0);
    cell.value = value;
  }

  /** A value that the search chooses: each of [0, count) is explored. */
  choose(count: number): Step<number> {
    if (count <= 1) return this.#finish(0);
    this.operation.op = Op.choose;
    this.operation.a = count;
    return this.#step;
  }

  // --- memory ---

  read8(address: number): Step<number> {
    return this.#onAddress(Op.read, address, 1);
  }

  read16(address: number): Step<number> {
    return this.#onAddress(Op.read, address, 2);
  }

  read32(address: number): Step<number> {
    return this.#onAddress(Op.read, address, 4);
  }

  read64(address: number): Step<number> {
    return this.#onAddress(Op.read, address, 8);
  }

  write8(address: number, value: number): Step<void> {
    return this.#asVoid(this.#onAddress(Op.write, address, 1, value));
  }

  write16(address: number, value: number): Step<void> {
    return this.#asVoid(this.#onAddress(Op.write, address, 2, value));
  }

  write32(address: number, value: number): Step<void> {
    return this.#asVoid(this.#onAddress(Op.write, address, 4, value));
  }

  write64(address: number, lo: number, hi: number): Step<void> {
    return this.#asVoid(this.#onAddress(Op.write, address, 8, lo, hi));
  }

  compareExchange64(
    address: number,
    expectedLo: number,
    expectedHi: number,
    lo: number,
    hi: number,
    order?: AtomicOrder,
  ): Step<number> {
    this.operation.c = lo;
    this.operation.d = hi;
    this.operation.isRelaxed = isRelaxed(order);
    return this.#onAddress(Op.compareExchange64, address, 8, expectedLo, expectedHi);
  }

  readBlock(address: number, target: Uint8Array): Step<void> {
    this.operation.block = target;
    return this.#asVoid(this.#onAddress(Op.readBlock, address, target.length));
  }

  writeBlock(address: number, source: Uint8Array): Step<void> {
    this.operation.block = source;
    return this.#asVoid(this.#onAddress(Op.writeBlock, address, source.length));
  }

  fill(address: number, sizeBytes: number, byte: number): Step<void> {
    return this.#asVoid(this.#onAddress(Op.fill, address, sizeBytes, byte));
  }

  waitUntilMemory32(address: number, test: CellTest, _timeoutNs: number): Step<number> {
    // Time-outs do not happen: who waits for what nobody does is a deadlock.
    this.operation.test = test;
    return this.#onAddress(Op.waitUntilMemory, address, 4);
  }

  // --- registers ---

  readRegister32(address: number): Step<number> {
    return this.#onAddress(Op.readRegister, address, 4);
  }

  readRegister64(address: number): Step<number> {
    return this.#onAddress(Op.readRegister, address, 8);
  }

  writeRegister32(address: number, value: number): Step<void> {
    return this.#asVoid(this.#onAddress(Op.writeRegister, address, 4, value));
  }

  writeRegister64(address: number, lo: number, hi: number): Step<void> {
    return this.#asVoid(this.#onAddress(Op.writeRegister, address, 8, lo, hi));
  }

  // --- time ---

  work(_code: WorkCode, _count = 1): void {}

  workNs(_durationNs: number): void {}

  /** The delays of this agent: no two agents' clocks can be compared. */
  now(): number {
    return this.#clockNs;
  }

  delay(durationNs: number): Step<void> {
    this.#clockNs += durationNs;
    this.gate?.endRound();
    return this.#nothing();
  }

  sleepUntil(atNs: number): Step<void> {
    return this.delay(Math.max(0, atNs - this.#clockNs));
  }

  /** The same numbers in every execution; `choose` is what the search varies. */
  random(): number {
    return this.#random.next();
  }

  raise(interrupt: Interrupt): void {
    this.#machine.interrupts.arm(interrupt, this);
  }

  armTimer(interrupt: Interrupt, _delayNs: number): void {
    this.#machine.interrupts.arm(interrupt, this);
  }

  cancelTimer(interrupt: Interrupt): boolean {
    return this.#machine.interrupts.cancel(interrupt, this);
  }

  irqDisable(): void {
    if (this.irqDepth++ === 0) this.#machine.interrupts.noteIrqChange(this, 0);
  }

  irqEnable(): void {
    assert(this.irqDepth > 0, "interrupts are enabled as often as they were disabled");
    if (--this.irqDepth === 0) this.#machine.interrupts.noteIrqChange(this, 1);
  }
}

/** An acquire orders what follows the atomic, which is in order here anyway. */
function isRelaxed(order: AtomicOrder | undefined): boolean {
  return order === "relaxed" || order === "acquire";
}
