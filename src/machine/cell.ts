/**
 * Shared variables.
 *
 * A `Cell` is one shared word; it lives on a `Line` of 64 bytes, and cells that
 * share a line share its cost. Lines that are known to be two halves of 128 bytes share it, too, on
 * machines that move so much at a time. Only agents read and write cells.
 */

export class Line {
  /** Number of the line in its machine's coherence state, given at first touch; -1 before. */
  id = -1;
  readonly name: string;
  /** A wire, not memory: looking at it costs nothing. */
  readonly isWire: boolean;
  /** A line in the same aligned 128 bytes, where one is known: see `CpuCosts.lineBytes`. */
  readonly neighbour: Line | undefined;

  constructor(name: string, isWire = false, neighbour?: Line) {
    this.name = name;
    this.isWire = isWire;
    this.neighbour = neighbour;
  }
}

/** A shared variable: a number that fits 53 bits (two 26-bit halves may be packed into one). */
export class Cell {
  value: number;
  readonly line: Line;
  readonly name: string;
  /** Number of the cell in an exploration, given at first touch; -1 before. */
  location = -1;

  constructor(line: Line, name: string, value = 0) {
    this.line = line;
    this.name = name;
    this.value = value;
  }
}

/** A line that lies in the same aligned 128 bytes as another one. */
export function neighbourLine(name: string, neighbour: Line): Line {
  return new Line(name, false, neighbour);
}

/** A cell on a line of its own: what per-CPU and heavily shared variables want. */
export function loneCell(name: string, value = 0): Cell {
  return new Cell(new Line(name), name, value);
}

/**
 * A signal that is no memory: an interrupt wire, or what a workload's own bookkeeping waits for.
 * Set it with `poke`, wait for it with `idleUntil` or `waitUntil`; neither costs anything.
 */
export function wireCell(name: string, value = 0): Cell {
  return new Cell(new Line(name, true), name, value);
}
