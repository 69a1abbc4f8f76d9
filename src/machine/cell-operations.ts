/**
 * The read-modify-write operations on a cell, for machines on which nobody comes in between:
 * each changes the cell at once and returns what it held before. The machine owns the cells;
 * nothing is kept here.
 */

import type { Cell } from "./cell.js";

export function compareExchange(cell: Cell, expected: number, desired: number): number {
  const found = cell.value;
  if (found === expected) cell.value = desired;
  return found;
}

export function exchange(cell: Cell, value: number): number {
  const found = cell.value;
  cell.value = value;
  return found;
}

export function fetchAdd(cell: Cell, addend: number): number {
  return exchange(cell, cell.value + addend);
}

// 32-bit and unsigned, as `Agent` says.

export function fetchOr(cell: Cell, bits: number): number {
  return exchange(cell, (cell.value | bits) >>> 0);
}

export function fetchAnd(cell: Cell, bits: number): number {
  return exchange(cell, (cell.value & bits) >>> 0);
}

export function fetchXor(cell: Cell, bits: number): number {
  return exchange(cell, (cell.value ^ bits) >>> 0);
}
