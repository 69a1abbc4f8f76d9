/**
 * The access that an agent of the timed machine is at: which kind, and its operands.
 *
 * An agent has one `Access`. Its face notes the next access in it, the load/store unit
 * performs what is noted when it is the agent's turn, and the agent keeps a copy of it while
 * an interrupt handler runs on top. All three write to it; nobody else sees it.
 */

import type { CellTest } from "./agent.js";
import type { Cell } from "./cell.js";
import type { PollPauses } from "./poll-register.js";
import type { Step, Suspension } from "./routine.js";

/** Kinds of access. */
export const Op = {
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
  writeWords: 14,
  waitUntil: 15,
  fullFence: 16,
  readBlock: 17,
  writeBlock: 18,
  fill: 19,
  waitUntilMemory32: 20,
  readRegister: 21,
  writeRegister: 22,
  sleep: 23,
  pollRegister: 24,
} as const;
/** The codes up to here access a cell, a cell or a word of memory: one at a time. */
export const OP_LAST_ON_CELL = Op.fetchXor;
export const OP_LAST_ON_LINE = Op.writeWords;
export type OpCode = (typeof Op)[keyof typeof Op];

const LOADS: readonly OpCode[] = [Op.load, Op.read, Op.read64, Op.waitUntil, Op.waitUntilMemory32];
const STORES: readonly OpCode[] = [Op.store, Op.storeRelease, Op.write, Op.write64, Op.writeWords];
/** By kind: only reads; is buffered. */
export const IS_LOAD = Object.values(Op).map((op) => LOADS.includes(op));
export const IS_STORE = Object.values(Op).map((op) => STORES.includes(op));

const NO_BLOCK = new Uint8Array(0);
const NO_HALVES = new Uint32Array(0);
const NO_PAUSES: PollPauses = { lastNs: 0, next: () => -1 };
const always: CellTest = () => true;

export class Access {
  op: OpCode = Op.fullFence;
  cell: Cell | undefined;
  address = 0;
  // Numbers, by kind: a value or its halves, a width or a size in bytes, a time.
  a = 0;
  b = 0;
  c = 0;
  d = 0;
  block: Uint8Array = NO_BLOCK;
  /** Words to be written: `a` is the index of the next one's low half, `b` how many are left. */
  halves: Uint32Array = NO_HALVES;
  test: CellTest = always;
  pauses: PollPauses = NO_PAUSES;
  /** Time that passes until the access is over counts as idle. */
  idle = false;

  copy(): Access {
    const copied = new Access();
    copied.assign(this);
    return copied;
  }

  assign(other: Access): void {
    this.op = other.op;
    this.cell = other.cell;
    this.address = other.address;
    this.a = other.a;
    this.b = other.b;
    this.c = other.c;
    this.d = other.d;
    this.block = other.block;
    this.halves = other.halves;
    this.test = other.test;
    this.pauses = other.pauses;
    this.idle = other.idle;
  }

  /** What an atomic makes of the value that it finds. */
  newValue(found: number): number {
    switch (this.op) {
      case Op.compareExchange:
        return found === this.a ? this.b : found;
      case Op.exchange:
        return this.a;
      case Op.fetchAdd:
        return found + this.a;
      case Op.fetchOr:
        return (found | this.a) >>> 0;
      case Op.fetchAnd:
        return (found & this.a) >>> 0;
      default:
        return (found ^ this.a) >>> 0;
    }
  }
}

const SUSPENDED = { done: false, value: undefined as unknown as Suspension } as const;

/**
 * The step of every access of an agent: one object of one class, so that `yield*` calls nothing
 * that the compiler does not know.
 */
export class AccessStep implements Step<number>, Iterator<Suspension, number, void> {
  /** What the access came to. */
  readonly result = { done: true as const, value: 0 as number };
  /** The access was performed, and its routine goes on with the result. */
  isPerformed = false;
  /** The routine is suspended in an access that is still to be performed. */
  isSuspended = false;

  [Symbol.iterator](): this {
    return this;
  }

  next(): IteratorResult<Suspension, number> {
    if (this.isPerformed) {
      this.isPerformed = false;
      return this.result;
    }
    this.isSuspended = true;
    return SUSPENDED;
  }
}
