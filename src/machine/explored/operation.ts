/**
 * The operation that an agent of the explored machine is about to perform: which kind, and its
 * operands. An agent has one; it is noted when the agent announces it and performed when the
 * agent is chosen. Interrupt handlers save the one of the routine below them.
 */

import type { CellTest } from "../agent.js";
import type { Cell } from "../cell.js";

export const Op = {
  load: 0,
  store: 1,
  compareExchange: 2,
  exchange: 3,
  fetchAdd: 4,
  fetchOr: 5,
  fetchAnd: 6,
  fetchXor: 7,
  waitUntil: 8,
  fullFence: 9,
  read: 10,
  write: 11,
  compareExchange64: 12,
  readBlock: 13,
  writeBlock: 14,
  fill: 15,
  waitUntilMemory: 16,
  readRegister: 17,
  writeRegister: 18,
  choose: 19,
} as const;
export type OpCode = (typeof Op)[keyof typeof Op];
export const OP_NAMES = Object.keys(Op) as readonly (keyof typeof Op)[];

const NO_BLOCK = new Uint8Array(0);
const always: CellTest = () => true;

export class Operation {
  op: OpCode = Op.fullFence;
  cell: Cell | undefined;
  address = 0;
  /** Width of an access to memory or a register. */
  sizeBytes = 0;
  // Numbers, by kind: values or their halves.
  a = 0;
  b = 0;
  c = 0;
  d = 0;
  block: Uint8Array = NO_BLOCK;
  test: CellTest = always;
  /** Of an atomic: stores before it may become visible after it. */
  isRelaxed = false;

  assign(other: Operation): void {
    this.op = other.op;
    this.cell = other.cell;
    this.address = other.address;
    this.sizeBytes = other.sizeBytes;
    this.a = other.a;
    this.b = other.b;
    this.c = other.c;
    this.d = other.d;
    this.block = other.block;
    this.test = other.test;
    this.isRelaxed = other.isRelaxed;
  }
}
