/**
 * Device registers on the physical address map.
 *
 * A device implements `RegisterBlock`; the machine routes register accesses to it.
 * Handlers act at once at the time of the access; longer work is for the device's
 * own agent, which the handler wakes with `by.poke(doorbell, …)`.
 */

import type { Agent } from "./agent.js";
import { assert, hex } from "./assert.js";
import type { Cell } from "./cell.js";

export interface RegisterBlock {
  readonly name: string;
  readonly base: number;
  readonly sizeBytes: number;
  /**
   * On the explored machine: the handlers tell what they touch, by `Agent.poke` and by
   * `ExploredMachine.observe`. Otherwise two accesses to the block depend on each other if one
   * of them is a write.
   */
  readonly announces?: boolean;
  read32(offset: number, by: Agent): number;
  write32(offset: number, value: number, by: Agent): void;
  /** The cell that alone decides what `read32` returns, where there is one and reads do nothing. */
  cellOf32?(offset: number): Cell | undefined;
  /** Returns the low half and leaves the high half in `by.hi`. */
  read64(offset: number, by: Agent): number;
  write64(offset: number, lo: number, hi: number, by: Agent): void;
}

/** Which register block answers at which address. Blocks do not overlap. */
export class RegisterMap {
  readonly #blocks: RegisterBlock[] = [];
  #last: RegisterBlock | undefined;

  add(block: RegisterBlock): void {
    const last = block.base + block.sizeBytes - 1;
    for (const other of this.#blocks) {
      assert(
        last < other.base || block.base > other.base + other.sizeBytes - 1,
        `register blocks ${block.name} at ${hex(block.base)} and ${other.name} are disjoint`,
      );
    }
    this.#blocks.push(block);
  }

  /** The block at `address`; reading a hole is a programmer's mistake. */
  find(address: number): RegisterBlock {
    const cached = this.#last;
    if (cached !== undefined && contains(cached, address)) return cached;
    for (const block of this.#blocks) {
      if (!contains(block, address)) continue;
      this.#last = block;
      return block;
    }
    return assert(false, `a device answers at register address ${hex(address)}`) as never;
  }
}

function contains(block: RegisterBlock, address: number): boolean {
  return address >= block.base && address < block.base + block.sizeBytes;
}
