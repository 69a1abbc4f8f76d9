/**
 * What code may do on a machine.
 *
 * An `Agent` is anything that acts: a CPU, an SMMU's command consumer, a device.
 * A `Cpu` is an agent that also takes interrupts. Which machine stands behind
 * decides what an access costs, when it happens and who runs meanwhile; a routine
 * cannot tell and must not care.
 *
 * 64-bit results come as two 32-bit halves: the access returns the low half and
 * leaves the high half in `hi` until the agent's next access.
 */

import type { Cell } from "./cell.js";
import type { PollPauses } from "./poll-register.js";
import type { Routine, Step } from "./routine.js";
import type { PhysicalAddress } from "./units.js";
import type { WorkCode } from "./work.js";

/**
 * Ordering points, named after the kernel's barriers: `full` is smp_mb(), `write`
 * smp_wmb(), `read` smp_rmb(), `device-write` dma_wmb()/wmb() before hardware is
 * told to look.
 */
export type Fence = "full" | "write" | "read" | "device-write";

/**
 * How an atomic is ordered with what its CPU does around it, named after the suffixes of the
 * kernel's atomics (Documentation/atomic_t.txt). Only a machine that reorders makes a difference,
 * and x86's (`tso`) does not: every locked instruction is a full barrier there.
 */
export type AtomicOrder = "full" | "acquire" | "release" | "relaxed";

export type CellTest = (value: number) => boolean;

/** Work that a timer or a device starts on a CPU. At most one run of it is pending. */
export interface Interrupt {
  readonly name: string;
  /** The CPU that takes it. */
  readonly cpuId: number;
  readonly handler: (cpu: Cpu) => Routine;
}

export interface Agent {
  readonly id: number;
  readonly name: string;
  /** High half (unsigned) of the last 64-bit result. */
  hi: number;

  // Shared variables. load and store are relaxed; the atomics order as the kernel's do: full
  // barriers, unless said otherwise. A compareExchange that fails orders nothing.
  load(cell: Cell): Step<number>;
  loadAcquire(cell: Cell): Step<number>;
  store(cell: Cell, value: number): Step<void>;
  storeRelease(cell: Cell, value: number): Step<void>;
  /** Stores `desired` if the cell holds `expected`; returns what it held before. */
  compareExchange(cell: Cell, expected: number, desired: number, order?: AtomicOrder): Step<number>;
  exchange(cell: Cell, value: number, order?: AtomicOrder): Step<number>;
  /** Adds and returns the value before. */
  fetchAdd(cell: Cell, addend: number, order?: AtomicOrder): Step<number>;
  /** 32-bit or/and/xor; returns the value before (unsigned). */
  fetchOr(cell: Cell, bits: number, order?: AtomicOrder): Step<number>;
  fetchAnd(cell: Cell, bits: number, order?: AtomicOrder): Step<number>;
  fetchXor(cell: Cell, bits: number, order?: AtomicOrder): Step<number>;
  fence(kind: Fence): Step<void>;
  /** Spins (with acquire order) until `test` holds for the cell's value, which is returned. */
  waitUntil(cell: Cell, test: CellTest): Step<number>;
  /** As `waitUntil`, but the time counts as idle: a CPU sleeps until it is woken. */
  idleUntil(cell: Cell, test: CellTest): Step<number>;
  /** Stores at once, free of cost, and wakes waiters: for register handlers and hardware wires. */
  poke(cell: Cell, value: number): void;

  // Memory that hardware can see. Relaxed, single-copy atomic at the access size.
  read8(address: PhysicalAddress): Step<number>;
  read16(address: PhysicalAddress): Step<number>;
  read32(address: PhysicalAddress): Step<number>;
  /** Returns the low half; the high half is in `hi`. */
  read64(address: PhysicalAddress): Step<number>;
  write8(address: PhysicalAddress, value: number): Step<void>;
  write16(address: PhysicalAddress, value: number): Step<void>;
  write32(address: PhysicalAddress, value: number): Step<void>;
  write64(address: PhysicalAddress, lo: number, hi: number): Step<void>;
  /** For `writeWords` of at least one, where a machine gains by knowing of all at once. */
  writeWords?(
    address: PhysicalAddress,
    halves: Uint32Array,
    first: number,
    count: number,
  ): Step<void>;
  /** As `compareExchange`. Returns the low half found, high half in `hi`; stored if both matched. */
  compareExchange64(
    address: PhysicalAddress,
    expectedLo: number,
    expectedHi: number,
    lo: number,
    hi: number,
    order?: AtomicOrder,
  ): Step<number>;
  /** Copies `target.length` bytes from memory; not atomic as a whole. */
  readBlock(address: PhysicalAddress, target: Uint8Array): Step<void>;
  writeBlock(address: PhysicalAddress, source: Uint8Array): Step<void>;
  fill(address: PhysicalAddress, sizeBytes: number, byte: number): Step<void>;
  /** Spins until `test` holds for the 32-bit word at `address` or `timeoutNs` passed; returns the word. */
  waitUntilMemory32(address: PhysicalAddress, test: CellTest, timeoutNs: number): Step<number>;

  // Device registers.
  /** For `pollRegister32`, where a machine can do better than look again and again. */
  pollRegister32?(address: PhysicalAddress, test: CellTest, pauses: PollPauses): Step<number>;
  readRegister32(address: PhysicalAddress): Step<number>;
  readRegister64(address: PhysicalAddress): Step<number>;
  writeRegister32(address: PhysicalAddress, value: number): Step<void>;
  writeRegister64(address: PhysicalAddress, lo: number, hi: number): Step<void>;

  /** For `alone`, where a machine gains by it. */
  alone?<T>(routine: Routine<T>): Step<T>;

  /** Charges `count` steps of computation; takes effect on the agent's own clock at once. */
  work(code: WorkCode, count?: number): void;
  /** Charges nanoseconds directly: for hardware whose timing is its own. */
  workNs(durationNs: number): void;
  /** The agent's virtual clock. */
  now(): number;
  /** Keeps the agent busy for `durationNs` (udelay); others run meanwhile. */
  delay(durationNs: number): Step<void>;
  /** Sleeps until virtual time `atNs`; idle. */
  sleepUntil(atNs: number): Step<void>;
  /** Uniform in [0, 1), from the machine's seed. */
  random(): number;

  /** Makes `interrupt` pending on its CPU. */
  raise(interrupt: Interrupt): void;
  /** Raises `interrupt` after `delayNs`; re-arming moves the time. */
  armTimer(interrupt: Interrupt, delayNs: number): void;
  /** Returns whether the timer was pending and will not fire. A running handler is not waited for. */
  cancelTimer(interrupt: Interrupt): boolean;
}

export interface Cpu extends Agent {
  /** Nested: interrupts are taken again after as many `irqEnable` as `irqDisable`. */
  irqDisable(): void;
  irqEnable(): void;
}
