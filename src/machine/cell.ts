/**
 * Shared variables.
 *
 * A `Cell` is one shared word; it lives on a `Line` of 64 bytes, and cells that
 * share a line share its cost. Only agents read and write cells. The coherence
 * state on a line belongs to the timed machine that runs it; other machines leave
 * it alone.
 */

/** An agent that is parked until a cell on the line changes. */
export interface LineWaiter {
  /** Called after a store to a cell of the line became visible at `atNs`. */
  lineChanged(cell: Cell, atNs: number): void;
}

export class Line {
  /** Number of the line on its machine, given at first touch; -1 before. */
  id = -1;
  /** CPU that holds the line modified; -1 when memory has it, or several share it. */
  owner = -1;
  /** Distance class of the farthest CPU that fetched the line since the last store. */
  sharedDistance = 0;
  /** Counts stores by changing owners; a CPU's cached copy is valid while it matches. */
  version = 0;
  /** Virtual time until which the line is in transit: transfers queue behind each other. */
  busyUntilNs = 0;
  readonly waiters: LineWaiter[] = [];
  readonly name: string;

  constructor(name: string) {
    this.name = name;
  }
}

/** A shared variable: a number that fits 53 bits (two 26-bit halves may be packed into one). */
export class Cell {
  value: number;
  readonly line: Line;
  readonly name: string;

  constructor(line: Line, name: string, value = 0) {
    this.line = line;
    this.name = name;
    this.value = value;
  }
}

/** A cell on a line of its own: what per-CPU and heavily shared variables want. */
export function loneCell(name: string, value = 0): Cell {
  return new Cell(new Line(name), name, value);
}
