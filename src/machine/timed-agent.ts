/**
 * An agent of the timed machine: a clock, a pending access, and a stack of activations
 * (a CPU's main routine, with interrupt handlers on top).
 *
 * Each access notes its operands and is performed when it is the agent's turn: at once
 * while the clock is within the horizon, otherwise after the machine resumed the agent.
 * Stores are buffered: they cost the CPU a hit, become visible when the line has
 * arrived, and full barriers and atomics wait for them.
 */

import type { CellTest, Cpu, Fence, Interrupt } from "./agent.js";
import type { HeapEntry } from "./agent-heap.js";
import { assert } from "./assert.js";
import type { Cell } from "./cell.js";
import type { Coherence, CpuCache } from "./coherence.js";
import type { CpuCosts, DeviceCosts, RegisterCosts } from "./cost.js";
import type { PhysicalMemory } from "./memory.js";
import { FRAME_BYTES, type Frame, frameOf, LINE_BYTES, LINE_LG2 } from "./memory.js";
import type { RegisterMap } from "./registers.js";
import type { Routine, Step, Suspension } from "./routine.js";
import type { CpuTime, TimedMachine } from "./timed.js";
import { WORK_NAMES, Work, type WorkCode } from "./work.js";

/** Kinds of access; the operands are the agent's `#cell`, `#address`, `#a`.. fields. */
const Op = {
  load: 0,
  store: 1,
  storeRelease: 2,
  compareExchange: 3,
  exchange: 4,
  fetchAdd: 5,
  fetchOr: 6,
  fetchAnd: 7,
  fetchXor: 8,
  read: 9,
  read64: 10,
  write: 11,
  write64: 12,
  compareExchange64: 13,
  waitUntil: 14,
  fullFence: 15,
  readBlock: 16,
  writeBlock: 17,
  fill: 18,
  waitUntilMemory32: 19,
  readRegister: 20,
  writeRegister: 21,
  sleep: 22,
} as const;
/** The codes up to here are single accesses to a cell, to a cell or a word of memory. */
const OP_LAST_ON_CELL = Op.fetchXor;
const OP_LAST_ON_LINE = Op.compareExchange64;
type OpCode = (typeof Op)[keyof typeof Op];

/** Operands of a suspended access, kept while an interrupt handler runs on top of it. */
interface SavedAccess {
  readonly op: OpCode;
  readonly cell: Cell | undefined;
  readonly address: number;
  readonly a: number;
  readonly b: number;
  readonly c: number;
  readonly d: number;
  readonly block: Uint8Array | undefined;
  readonly test: CellTest;
  readonly idle: boolean;
}

interface Activation {
  readonly routine: Routine<unknown>;
  readonly isInterrupt: boolean;
  /** The access that an interrupt handler was taken in, if there was one. */
  readonly below: SavedAccess | undefined;
}

const SUSPENDED = { done: false, value: undefined as unknown as Suspension } as const;
const FOREVER = Number.POSITIVE_INFINITY;
/**
 * How far past the horizon hits on private lines may run. Of the order of one call of the
 * DMA API, so that a CPU does a call's private accesses in one go.
 */
const LOOKAHEAD_NS = 500;
/**
 * A pause of a few instructions (cpu_relax() in a spin loop) passes like work: nothing happens
 * at its end, and the next access waits for its turn.
 */
const RELAX_MAX_NS = 20;
/** Parked for time only. */
const NO_LINE = -1;
const NO_BLOCK = new Uint8Array(0);
const always: CellTest = () => true;

export class TimedAgent implements Cpu, HeapEntry {
  readonly id: number;
  readonly name: string;
  hi = 0;
  clockNs: number;
  heapIndex = -1;
  /** Waits for a line to change or for a deadline. */
  isParked = false;
  readonly #machine: TimedMachine;
  readonly #memory: PhysicalMemory;
  readonly #registers: RegisterMap;
  readonly #coherence: Coherence;
  /** Undefined for a device: it has no cache of its own. */
  readonly #cache: CpuCache | undefined;
  readonly #cpuCosts: CpuCosts;
  readonly #registerCosts: RegisterCosts;
  readonly #deviceCosts: DeviceCosts;
  readonly #workNs: Float64Array;
  readonly #activations: Activation[] = [];
  readonly #queued: Routine<unknown>[] = [];
  readonly #interrupts: Interrupt[] = [];
  #irqDisableDepth = 0;
  /** 0 from a pause to the next turn: who spins looks in the order of virtual time. */
  #lookaheadNs = LOOKAHEAD_NS;
  /** Time at which all own stores are visible. */
  #drainNs = 0;
  #idleNs = 0;
  /** How much later than `clockNs` a poke takes effect: posted writes travel. */
  #pokeDelayNs = 0;

  // A parked agent's clock shows its deadline; the time it parked at is kept here.
  #parkedLine = NO_LINE;
  #parkedNs = 0;

  #op: OpCode = Op.fullFence;
  #cell: Cell | undefined;
  #address = 0;
  #a = 0;
  #b = 0;
  #c = 0;
  #d = 0;
  #block: Uint8Array = NO_BLOCK;
  #test: CellTest = always;
  #idle = false;
  /** The routine on top is suspended in the noted access, which is still to be performed. */
  #isSuspended = false;
  /** The access was performed before the routine was resumed for its result. */
  #isPerformed = false;
  readonly #result = { done: true as const, value: 0 as number };
  readonly #done: Step<number>;
  readonly #pending: Step<number>;

  constructor(machine: TimedMachine, id: number, name: string, cache: CpuCache | undefined) {
    this.#machine = machine;
    this.#memory = machine.memory;
    this.#registers = machine.registers;
    this.#coherence = machine.coherence;
    this.#cache = cache;
    this.#cpuCosts = machine.costs.cpu;
    this.#registerCosts = machine.costs.register;
    this.#deviceCosts = machine.costs.device;
    const isCpu = cache !== undefined;
    // Hardware charges its own timing with workNs; the CPU's work costs are not its.
    this.#workNs = Float64Array.from(WORK_NAMES, (work) =>
      isCpu ? machine.costs.workNs[work] : 0,
    );
    this.id = id;
    this.name = name;
    this.clockNs = machine.nowNs;
    const result = this.#result;
    const done = { next: () => result, [Symbol.iterator]: () => done };
    this.#done = done;
    const pending = { next: () => this.#nextOfPending(), [Symbol.iterator]: () => pending };
    this.#pending = pending;
  }

  // --- what the machine asks ---

  get hasWork(): boolean {
    return this.#activations.length > 0 || this.#queued.length > 0;
  }

  /** Neither running nor in the heap, or there only for a deadline. */
  get isWaiting(): boolean {
    return this.isParked || (this.heapIndex < 0 && this.#activations.length === 0);
  }

  queue(routine: Routine<unknown>): void {
    this.#queued.push(routine);
  }

  /** Returns whether the interrupt is new and can be taken now. */
  addInterrupt(interrupt: Interrupt): boolean {
    if (this.#interrupts.includes(interrupt)) return false;
    this.#interrupts.push(interrupt);
    return this.#irqDisableDepth === 0;
  }

  /** Leaves a line's waiters; the clock goes back to when the agent parked. */
  unparked(): void {
    this.clockNs = this.#parkedNs;
    this.isParked = false;
  }

  /** Moves the clock forward; the time passed is idle if the agent was. */
  advanceTo(atNs: number): void {
    if (this.isParked) {
      this.#machine.unpark(this, this.#parkedLine);
      this.unparked();
    }
    if (atNs <= this.clockNs) return;
    const isIdle = this.#activations.length === 0 || this.#idle;
    if (isIdle) this.#idleNs += atNs - this.clockNs;
    this.clockNs = atNs;
  }

  /** Runs until the agent has to wait; returns whether it wants to go on at `clockNs`. */
  turn(): boolean {
    if (this.isParked) this.#endParkAtDeadline();
    this.#lookaheadNs = LOOKAHEAD_NS;
    for (;;) {
      if (this.#canTakeInterrupt()) this.#enterInterrupt();
      else if (this.#activations.length === 0) {
        const next = this.#queued.shift();
        if (next === undefined) return false;
        this.#activations.push({ routine: next, isInterrupt: false, below: undefined });
      }
      if (this.#stillWaits()) return this.clockNs !== FOREVER;
      if (this.#resumeTop()) {
        this.#leave();
        // What a handler interrupted waits for its turn again: the clock has moved on.
        if (this.#activations.length > 0 && this.clockNs > this.#machine.horizonNs) return true;
      } else if (this.isParked) return this.clockNs !== FOREVER;
      else if (!this.#canTakeInterrupt()) return true;
    }
  }

  describeWait(): string {
    if (!this.isParked) return "";
    const cell = this.#cell;
    if (this.#parkedLine === NO_LINE) return `${this.name} until ${this.clockNs} ns`;
    const what = cell === undefined ? "a word of memory" : `${cell.name} (holds ${cell.value})`;
    return `${this.name} for ${what} since ${this.#parkedNs} ns`;
  }

  time(): CpuTime {
    const clockNs = this.isParked ? this.#parkedNs : this.clockNs;
    const restNs = this.hasWork ? 0 : Math.max(0, this.#machine.nowNs - clockNs);
    return { busyNs: clockNs - this.#idleNs, idleNs: this.#idleNs + restNs };
  }

  /**
   * Whether a wait that the routine on top is suspended in has to go on: found out here, since
   * waking the routine through all its callers, to have it look for itself, costs much more.
   */
  #stillWaits(): boolean {
    if (!this.#isSuspended || this.#op !== Op.waitUntil) return false;
    if (!this.#perform()) return true;
    this.#isSuspended = false;
    this.#isPerformed = true;
    return false;
  }

  /** Resumes the routine on top; returns whether it ended. */
  #resumeTop(): boolean {
    try {
      return this.#activations[this.#activations.length - 1].routine.next().done === true;
    } catch (error) {
      // What the routine threw goes to whoever runs the machine; the agent is free again.
      this.#abandon();
      throw error;
    }
  }

  #abandon(): void {
    const routines = this.#activations.filter(({ isInterrupt }) => !isInterrupt).length;
    this.#activations.length = 0;
    this.#irqDisableDepth = 0;
    this.#isSuspended = false;
    if (this.#cache === undefined) return;
    for (let n = 0; n < routines; n++) this.#machine.routineEnded(this.clockNs);
  }

  #canTakeInterrupt(): boolean {
    return this.#interrupts.length > 0 && this.#irqDisableDepth === 0;
  }

  #enterInterrupt(): void {
    const interrupt = this.#interrupts.shift() as Interrupt;
    const below = this.#activations.length === 0 ? undefined : this.#saveAccess();
    this.#idle = false;
    this.#isSuspended = false;
    this.work(Work.interrupt);
    this.#activations.push({ routine: interrupt.handler(this), isInterrupt: true, below });
  }

  #leave(): void {
    const ended = this.#activations.pop() as Activation;
    if (ended.below !== undefined) this.#restoreAccess(ended.below);
    if (!ended.isInterrupt && this.#cache !== undefined) this.#machine.routineEnded(this.clockNs);
  }

  #saveAccess(): SavedAccess {
    return {
      op: this.#op,
      cell: this.#cell,
      address: this.#address,
      a: this.#a,
      b: this.#b,
      c: this.#c,
      d: this.#d,
      block: this.#block,
      test: this.#test,
      idle: this.#idle,
    };
  }

  #restoreAccess(saved: SavedAccess): void {
    this.#op = saved.op;
    this.#cell = saved.cell;
    this.#address = saved.address;
    this.#a = saved.a;
    this.#b = saved.b;
    this.#c = saved.c;
    this.#d = saved.d;
    this.#block = saved.block ?? NO_BLOCK;
    this.#test = saved.test;
    this.#idle = saved.idle;
    this.#isSuspended = true;
  }

  // --- how an access happens ---

  /** Performs the noted access now if it is this agent's turn, else suspends. */
  #issue(): Step<number> {
    const aheadNs = this.clockNs - this.#machine.horizonNs;
    const mayAct = aheadNs <= 0 || (aheadNs <= this.#lookaheadNs && this.#hitsPrivately());
    if (mayAct && this.#perform()) return this.#done;
    return this.#pending;
  }

  /** Whether the noted access touches nothing that another agent is using. */
  #hitsPrivately(): boolean {
    const cache = this.#cache;
    if (this.#op === Op.fullFence) return true;
    if (cache === undefined || this.#op > OP_LAST_ON_LINE) return false;
    let line: number;
    if (this.#op <= OP_LAST_ON_CELL) line = (this.#cell as Cell).line.id;
    else {
      const frame = this.#memory.findFrame(frameOf(this.#address));
      if (frame === undefined || frame.firstLineId < 0) return false;
      line = this.#lineOf(frame);
    }
    if (line < 0) return false;
    const isLoad = this.#op === Op.load || this.#op === Op.read || this.#op === Op.read64;
    return isLoad
      ? this.#coherence.holdsCopy(cache, line)
      : this.#coherence.holdsPrivately(cache, line);
  }

  #issueVoid(): Step<void> {
    return this.#issue() as unknown as Step<void>;
  }

  #nextOfPending(): IteratorResult<Suspension, number> {
    if (this.#isPerformed) {
      this.#isPerformed = false;
      return this.#result;
    }
    if (this.#isSuspended && this.#perform()) {
      this.#isSuspended = false;
      return this.#result;
    }
    this.#isSuspended = true;
    return SUSPENDED;
  }

  /** Performs the noted access at `clockNs`; false when the agent parked instead. */
  #perform(): boolean {
    switch (this.#op) {
      case Op.load:
        this.#readCell();
        this.#result.value = (this.#cell as Cell).value;
        return true;
      case Op.store:
      case Op.storeRelease:
        this.#storeCell();
        return true;
      case Op.waitUntil:
        return this.#waitForCell();
      case Op.fullFence:
        this.clockNs = Math.max(this.clockNs, this.#drainNs) + this.#cpuCosts.fullFenceNs;
        return true;
      case Op.sleep:
        return this.#sleep();
      case Op.read:
      case Op.read64:
        this.#readMemory();
        return true;
      case Op.write:
      case Op.write64:
        this.#writeMemory();
        return true;
      case Op.compareExchange64:
        this.#compareExchange64();
        return true;
      case Op.readBlock:
      case Op.writeBlock:
      case Op.fill:
        this.#moveBlock();
        return true;
      case Op.waitUntilMemory32:
        return this.#waitForMemory();
      case Op.readRegister:
      case Op.writeRegister:
        this.#accessRegister();
        return true;
      default:
        this.#atomicCell();
        return true;
    }
  }

  #readCell(): void {
    const cache = this.#cache;
    const { line: on } = this.#cell as Cell;
    if (cache === undefined || on.isWire) return;
    const line = this.#coherence.lineOfCell(on);
    this.clockNs = this.#coherence.cpuRead(cache, line, this.clockNs);
  }

  #storeCell(): void {
    const cell = this.#cell as Cell;
    const line = this.#coherence.lineOfCell(cell.line);
    const cache = this.#cache;
    let visibleNs = this.clockNs;
    if (cache !== undefined) {
      visibleNs = this.#coherence.cpuWrite(cache, line, this.clockNs);
      this.clockNs += this.#cpuCosts.hitNs;
      // A release store follows all earlier ones.
      if (this.#op === Op.storeRelease) visibleNs = Math.max(visibleNs, this.#drainNs);
      this.#drainNs = Math.max(this.#drainNs, visibleNs);
    }
    cell.value = this.#a;
    this.#machine.lineChanged(line, visibleNs);
  }

  /** compareExchange, exchange, fetch*: own the line, wait for own stores, change the cell. */
  #atomicCell(): void {
    const cell = this.#cell as Cell;
    const line = this.#coherence.lineOfCell(cell.line);
    const cache = this.#cache;
    if (cache !== undefined) {
      const startNs = Math.max(this.clockNs, this.#drainNs);
      this.clockNs = this.#coherence.cpuWrite(cache, line, startNs) + this.#cpuCosts.atomicNs;
    }
    const found = cell.value;
    this.#result.value = found;
    const value = this.#newValue(found);
    if (value === found) return;
    cell.value = value;
    this.#machine.lineChanged(line, this.clockNs);
  }

  #newValue(found: number): number {
    switch (this.#op) {
      case Op.compareExchange:
        return found === this.#a ? this.#b : found;
      case Op.exchange:
        return this.#a;
      case Op.fetchAdd:
        return found + this.#a;
      case Op.fetchOr:
        return (found | this.#a) >>> 0;
      case Op.fetchAnd:
        return (found & this.#a) >>> 0;
      default:
        return (found ^ this.#a) >>> 0;
    }
  }

  #waitForCell(): boolean {
    const cell = this.#cell as Cell;
    this.#readCell();
    if (this.#test(cell.value)) {
      this.#result.value = cell.value;
      this.#idle = false;
      return true;
    }
    this.#park(this.#coherence.lineOfCell(cell.line), FOREVER);
    return false;
  }

  #sleep(): boolean {
    const untilNs = this.#a;
    if (this.clockNs < untilNs) {
      if (untilNs > this.#machine.horizonNs) {
        this.#park(NO_LINE, untilNs);
        return false;
      }
      if (this.#idle) this.#idleNs += untilNs - this.clockNs;
      this.clockNs = untilNs;
    }
    this.#idle = false;
    return true;
  }

  #park(line: number, deadlineNs: number): void {
    this.#parkedLine = line;
    this.isParked = true;
    this.#parkedNs = this.clockNs;
    this.clockNs = deadlineNs;
    if (line !== NO_LINE) this.#machine.park(this, line);
  }

  #endParkAtDeadline(): void {
    const deadlineNs = this.clockNs;
    this.#machine.unpark(this, this.#parkedLine);
    this.unparked();
    this.advanceTo(deadlineNs);
  }

  // --- memory ---

  #lineOf(frame: Frame): number {
    const lineInFrame = (this.#address & (FRAME_BYTES - 1)) >> LINE_LG2;
    return this.#coherence.lineOfFrame(frame, lineInFrame);
  }

  #touchRead(frame: Frame | undefined): void {
    const cache = this.#cache;
    if (frame === undefined) {
      this.clockNs +=
        cache === undefined ? this.#deviceCosts.memoryReadNs : this.#cpuCosts.memoryNs;
      return;
    }
    const line = this.#lineOf(frame);
    this.clockNs =
      cache === undefined
        ? this.#coherence.deviceRead(line, this.clockNs, this.#deviceCosts.memoryReadNs)
        : this.#coherence.cpuRead(cache, line, this.clockNs);
  }

  /** Charges a buffered (CPU) or posted (device) write; returns when it is visible. */
  #touchWrite(line: number): number {
    const cache = this.#cache;
    if (cache === undefined) {
      const costNs = this.#deviceCosts.memoryWriteNs;
      const visibleNs = this.#coherence.deviceWrite(line, this.clockNs, costNs);
      this.clockNs = visibleNs;
      return visibleNs;
    }
    const visibleNs = this.#coherence.cpuWrite(cache, line, this.clockNs);
    this.clockNs += this.#cpuCosts.hitNs;
    this.#drainNs = Math.max(this.#drainNs, visibleNs);
    return visibleNs;
  }

  #readMemory(): void {
    const address = this.#address;
    this.#touchRead(this.#memory.findFrame(frameOf(address)));
    if (this.#op === Op.read64) {
      this.#result.value = this.#memory.read64(address);
      this.hi = this.#memory.hi;
    } else if (this.#a === 4) this.#result.value = this.#memory.read32(address);
    else if (this.#a === 2) this.#result.value = this.#memory.read16(address);
    else this.#result.value = this.#memory.read8(address);
  }

  #writeMemory(): void {
    const address = this.#address;
    const line = this.#lineOf(this.#memory.frame(frameOf(address)));
    const visibleNs = this.#touchWrite(line);
    if (this.#op === Op.write64) this.#memory.write64(address, this.#a, this.#b);
    else if (this.#b === 4) this.#memory.write32(address, this.#a);
    else if (this.#b === 2) this.#memory.write16(address, this.#a);
    else this.#memory.write8(address, this.#a);
    this.#machine.lineChanged(line, visibleNs);
  }

  #compareExchange64(): void {
    const address = this.#address;
    const line = this.#lineOf(this.#memory.frame(frameOf(address)));
    const cache = this.#cache;
    if (cache === undefined) this.#touchRead(this.#memory.frame(frameOf(address)));
    else {
      const startNs = Math.max(this.clockNs, this.#drainNs);
      this.clockNs = this.#coherence.cpuWrite(cache, line, startNs) + this.#cpuCosts.atomicNs;
    }
    const foundLo = this.#memory.read64(address);
    const foundHi = this.#memory.hi;
    this.hi = foundHi;
    this.#result.value = foundLo;
    if (foundLo !== this.#a >>> 0 || foundHi !== this.#b >>> 0) return;
    this.#memory.write64(address, this.#c, this.#d);
    this.#machine.lineChanged(line, this.clockNs);
  }

  /** Blocks stream: they cost by the kilobyte, and take the lines they write from other CPUs. */
  #moveBlock(): void {
    const isFill = this.#op === Op.fill;
    const sizeBytes = isFill ? this.#a : this.#block.length;
    const kilobytes = sizeBytes / 1024;
    if (this.#cache === undefined) {
      const isRead = this.#op === Op.readBlock;
      const { memoryReadNs, memoryWriteNs } = this.#deviceCosts;
      // A device moves one burst per line; bursts are pipelined, so only the first counts.
      this.clockNs += isRead ? memoryReadNs : memoryWriteNs;
    } else
      this.clockNs += Math.max(this.#cpuCosts.hitNs, kilobytes * this.#workNs[Work.copyKilobyte]);
    if (this.#op === Op.readBlock) {
      this.#memory.readBlock(this.#address, this.#block);
      return;
    }
    if (isFill) this.#memory.fill(this.#address, sizeBytes, this.#b);
    else this.#memory.writeBlock(this.#address, this.#block);
    this.#takeLines(sizeBytes);
  }

  /** Gives the written lines to the writer: other CPUs' copies are stale now. */
  #takeLines(sizeBytes: number): void {
    const first = this.#address;
    for (let at = first - (first % LINE_BYTES); at < first + sizeBytes; at += LINE_BYTES) {
      const frame = this.#memory.findFrame(frameOf(at));
      if (frame === undefined) continue;
      this.#address = at;
      const line = this.#lineOf(frame);
      if (this.#cache === undefined) this.#coherence.deviceWrite(line, this.clockNs, 0);
      else this.#coherence.claim(this.#cache, line);
      this.#machine.lineChanged(line, this.clockNs);
    }
  }

  #waitForMemory(): boolean {
    const address = this.#address;
    const frame = this.#memory.frame(frameOf(address));
    this.#touchRead(frame);
    const value = this.#memory.read32(address);
    this.#result.value = value;
    if (this.#test(value) || this.clockNs >= this.#a) return true;
    this.#park(this.#lineOf(frame), this.#a);
    return false;
  }

  // --- registers: `#a` is the width or low half, `#b` the high half, `#c` the width ---

  #accessRegister(): void {
    const block = this.#registers.find(this.#address);
    const offset = this.#address - block.base;
    if (this.#op === Op.readRegister) {
      const is32 = this.#c === 4;
      this.#result.value = is32 ? block.read32(offset, this) : block.read64(offset, this);
      this.clockNs += this.#registerCosts.readNs / 2;
      return;
    }
    this.#pokeDelayNs = this.#registerCosts.postedNs;
    if (this.#c === 4) block.write32(offset, this.#a, this);
    else block.write64(offset, this.#a, this.#b, this);
    this.#pokeDelayNs = 0;
    this.clockNs += this.#registerCosts.writeNs;
  }

  // --- the agent's face ---

  load(cell: Cell): Step<number> {
    const cache = this.#cache;
    const line = cell.line.id;
    // In line: a hit that may happen at once.
    if (cache !== undefined && line >= 0) {
      const mayAct = this.clockNs - this.#machine.horizonNs <= this.#lookaheadNs;
      if (mayAct && this.#coherence.holdsCopy(cache, line)) {
        this.clockNs += this.#cpuCosts.hitNs;
        this.#result.value = cell.value;
        return this.#done;
      }
    }
    this.#op = Op.load;
    this.#cell = cell;
    return this.#issue();
  }

  loadAcquire(cell: Cell): Step<number> {
    return this.load(cell);
  }

  store(cell: Cell, value: number): Step<void> {
    this.#op = Op.store;
    this.#cell = cell;
    this.#a = value;
    return this.#issueVoid();
  }

  storeRelease(cell: Cell, value: number): Step<void> {
    this.#op = Op.storeRelease;
    this.#cell = cell;
    this.#a = value;
    return this.#issueVoid();
  }

  compareExchange(cell: Cell, expected: number, desired: number): Step<number> {
    this.#b = desired;
    return this.#atomic(Op.compareExchange, cell, expected);
  }

  exchange(cell: Cell, value: number): Step<number> {
    return this.#atomic(Op.exchange, cell, value);
  }

  fetchAdd(cell: Cell, addend: number): Step<number> {
    return this.#atomic(Op.fetchAdd, cell, addend);
  }

  fetchOr(cell: Cell, bits: number): Step<number> {
    return this.#atomic(Op.fetchOr, cell, bits);
  }

  fetchAnd(cell: Cell, bits: number): Step<number> {
    return this.#atomic(Op.fetchAnd, cell, bits);
  }

  fetchXor(cell: Cell, bits: number): Step<number> {
    return this.#atomic(Op.fetchXor, cell, bits);
  }

  #atomic(op: OpCode, cell: Cell, a: number): Step<number> {
    this.#op = op;
    this.#cell = cell;
    this.#a = a;
    return this.#issue();
  }

  fence(kind: Fence): Step<void> {
    if (kind === "full") {
      this.#op = Op.fullFence;
      return this.#issueVoid();
    }
    this.clockNs += this.#cpuCosts.orderFenceNs;
    return this.#done as unknown as Step<void>;
  }

  waitUntil(cell: Cell, test: CellTest): Step<number> {
    return this.#wait(cell, test, false);
  }

  idleUntil(cell: Cell, test: CellTest): Step<number> {
    return this.#wait(cell, test, true);
  }

  #wait(cell: Cell, test: CellTest, idle: boolean): Step<number> {
    this.#op = Op.waitUntil;
    this.#cell = cell;
    this.#test = test;
    this.#idle = idle;
    return this.#issue();
  }

  poke(cell: Cell, value: number): void {
    cell.value = value;
    const line = this.#coherence.lineOfCell(cell.line);
    this.#machine.lineChanged(line, this.clockNs + this.#pokeDelayNs);
  }

  read8(address: number): Step<number> {
    return this.#read(address, 1);
  }

  read16(address: number): Step<number> {
    return this.#read(address, 2);
  }

  read32(address: number): Step<number> {
    return this.#read(address, 4);
  }

  #read(address: number, widthBytes: number): Step<number> {
    this.#op = Op.read;
    this.#address = address;
    this.#a = widthBytes;
    return this.#issue();
  }

  read64(address: number): Step<number> {
    const cache = this.#cache;
    const frame = this.#memory.findFrame(frameOf(address));
    // In line because page tables are walked with it: a hit that may happen at once.
    if (cache !== undefined && frame !== undefined && frame.firstLineId >= 0) {
      const line = frame.firstLineId + ((address & (FRAME_BYTES - 1)) >> LINE_LG2);
      const mayAct = this.clockNs - this.#machine.horizonNs <= this.#lookaheadNs;
      if (mayAct && this.#coherence.holdsCopy(cache, line)) {
        this.clockNs += this.#cpuCosts.hitNs;
        this.#result.value = this.#memory.read64(address);
        this.hi = this.#memory.hi;
        return this.#done;
      }
    }
    this.#op = Op.read64;
    this.#address = address;
    return this.#issue();
  }

  write8(address: number, value: number): Step<void> {
    return this.#write(address, value, 1);
  }

  write16(address: number, value: number): Step<void> {
    return this.#write(address, value, 2);
  }

  write32(address: number, value: number): Step<void> {
    return this.#write(address, value, 4);
  }

  #write(address: number, value: number, widthBytes: number): Step<void> {
    this.#op = Op.write;
    this.#address = address;
    this.#a = value;
    this.#b = widthBytes;
    return this.#issueVoid();
  }

  write64(address: number, lo: number, hi: number): Step<void> {
    this.#op = Op.write64;
    this.#address = address;
    this.#a = lo;
    this.#b = hi;
    return this.#issueVoid();
  }

  compareExchange64(
    address: number,
    expectedLo: number,
    expectedHi: number,
    lo: number,
    hi: number,
  ): Step<number> {
    this.#op = Op.compareExchange64;
    this.#address = address;
    this.#a = expectedLo;
    this.#b = expectedHi;
    this.#c = lo;
    this.#d = hi;
    return this.#issue();
  }

  readBlock(address: number, target: Uint8Array): Step<void> {
    this.#op = Op.readBlock;
    this.#address = address;
    this.#block = target;
    return this.#issueVoid();
  }

  writeBlock(address: number, source: Uint8Array): Step<void> {
    this.#op = Op.writeBlock;
    this.#address = address;
    this.#block = source;
    return this.#issueVoid();
  }

  fill(address: number, sizeBytes: number, byte: number): Step<void> {
    this.#op = Op.fill;
    this.#address = address;
    this.#a = sizeBytes;
    this.#b = byte;
    return this.#issueVoid();
  }

  waitUntilMemory32(address: number, test: CellTest, timeoutNs: number): Step<number> {
    this.#op = Op.waitUntilMemory32;
    this.#cell = undefined;
    this.#address = address;
    this.#test = test;
    this.#a = this.clockNs + timeoutNs;
    return this.#issue();
  }

  readRegister32(address: number): Step<number> {
    return this.#readRegister(address, 4);
  }

  readRegister64(address: number): Step<number> {
    return this.#readRegister(address, 8);
  }

  #readRegister(address: number, widthBytes: number): Step<number> {
    this.#op = Op.readRegister;
    this.#address = address;
    this.#c = widthBytes;
    // The value is that of the moment when the request has arrived at the device.
    this.clockNs += this.#registerCosts.readNs / 2;
    return this.#issue();
  }

  writeRegister32(address: number, value: number): Step<void> {
    this.#op = Op.writeRegister;
    this.#address = address;
    this.#a = value;
    this.#c = 4;
    return this.#issueVoid();
  }

  writeRegister64(address: number, lo: number, hi: number): Step<void> {
    this.#op = Op.writeRegister;
    this.#address = address;
    this.#a = lo;
    this.#b = hi;
    this.#c = 8;
    return this.#issueVoid();
  }

  work(code: WorkCode, count = 1): void {
    this.clockNs += this.#workNs[code] * count;
  }

  workNs(durationNs: number): void {
    this.clockNs += durationNs;
  }

  now(): number {
    return this.clockNs;
  }

  delay(durationNs: number): Step<void> {
    if (durationNs <= RELAX_MAX_NS && this.#cache !== undefined) {
      this.clockNs += durationNs;
      this.#lookaheadNs = 0;
      return this.#done as unknown as Step<void>;
    }
    return this.#sleepUntil(this.clockNs + durationNs, false);
  }

  sleepUntil(atNs: number): Step<void> {
    return this.#sleepUntil(atNs, true);
  }

  #sleepUntil(atNs: number, idle: boolean): Step<void> {
    this.#op = Op.sleep;
    this.#a = atNs;
    this.#idle = idle;
    return this.#issueVoid();
  }

  random(): number {
    return this.#machine.random.next();
  }

  raise(interrupt: Interrupt): void {
    this.#machine.raise(interrupt, this.clockNs);
  }

  armTimer(interrupt: Interrupt, delayNs: number): void {
    this.#machine.armTimer(interrupt, this.clockNs, delayNs);
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
    if (this.#canTakeInterrupt()) this.#machine.endTurn();
  }
}
