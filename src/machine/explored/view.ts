/**
 * What one agent sees: memory and cells with its own hidden stores on top; and whether what a
 * poll saw has changed.
 */

import type { Cell } from "../cell.js";
import type { ExploredMachine } from "./machine.js";
import type { Glance, PollGate } from "./poll-gate.js";
import { Half, type StoreBuffer } from "./store-buffer.js";

export class View {
  /** High half of the last look at memory. */
  hi = 0;
  readonly #machine: ExploredMachine;
  readonly #buffer: StoreBuffer | undefined;
  readonly #gate: PollGate | undefined;

  constructor(
    machine: ExploredMachine,
    buffer: StoreBuffer | undefined,
    gate: PollGate | undefined,
  ) {
    this.#machine = machine;
    this.#buffer = buffer;
    this.#gate = gate;
  }

  cell(cell: Cell): number {
    const hidden = this.#buffer?.newestToCell(cell);
    return hidden === undefined ? cell.value : hidden.lo;
  }

  /** The granule as this agent sees it: low half, and the high one in `hi`. */
  granule(aligned: number, location: number): number {
    const { memory } = this.#machine;
    let lo = memory.read32(aligned);
    let hi = memory.read32(aligned + 4);
    const buffer = this.#buffer;
    if (buffer !== undefined && !buffer.isEmpty) {
      const low = buffer.newestToMemory(location, Half.lo);
      const high = buffer.newestToMemory(location, Half.hi);
      if (low !== undefined) lo = low.lo;
      if (high !== undefined) hi = high.hi;
    }
    this.hi = hi;
    return lo;
  }

  word(address: number): number {
    const lo = this.granule(address - (address & 7), this.#machine.locations.ofMemory(address));
    return (address & 4) === 0 ? lo : this.hi;
  }

  /** Whether what the agent sees in a cell is a store that others do not see yet. */
  isOwnCell(cell: Cell): boolean {
    return this.#buffer?.newestToCell(cell) !== undefined;
  }

  /** As `isOwnCell`, for the word at an address. */
  isOwnWord(address: number): boolean {
    const location = this.#machine.locations.ofMemory(address);
    const half = (address & 4) === 0 ? Half.lo : Half.hi;
    return this.#buffer?.newestToMemory(location, half) !== undefined;
  }

  /** Notes an access for the gate, if there is one. */
  glance(
    location: number,
    isWrite: boolean,
    seen: number,
    lo: number,
    hi: number,
    cell: Cell | undefined,
  ): Glance | undefined {
    const glance = this.#gate?.note(location, isWrite, seen, lo, hi);
    if (glance !== undefined) glance.cell = cell;
    return glance;
  }

  /** Whether something that the closed gate watches has changed. */
  gateOpens(): boolean {
    const gate = this.#gate as PollGate;
    for (let index = 0; index < gate.watchedCount; index++) {
      const { cell, device, address, location, lo, hi } = gate.watched[index];
      if (cell !== undefined) {
        if (this.cell(cell) !== lo) return true;
      } else if (device !== undefined) {
        if (device.version !== lo) return true;
      } else if (address !== 0) {
        if (this.granule(address, location) !== lo || this.hi !== hi) return true;
      }
    }
    return false;
  }

  noteGate(): void {
    const gate = this.#gate as PollGate;
    const { footprint } = this.#machine;
    for (let index = 0; index < gate.watchedCount; index++) {
      const { location, lo, hi } = gate.watched[index];
      footprint.awaitChange(location, lo, hi);
    }
  }
}
