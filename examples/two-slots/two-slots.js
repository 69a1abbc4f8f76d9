/**
 * An idea to try: lazy invalidation with two shared slots in place of a flush queue per CPU.
 *
 * An unmap retires its address into the open slot, without a lock. A flush opens the other slot,
 * waits until nobody is still writing into the old one, invalidates once, and gives back all that
 * the old one holds. Slots are numbered as generations; a generation's parity is its slot.
 */

import { Cell, Line, loneCell } from "iommukit/machine";

/**
 * What the scheme needs of its surroundings.
 * @typedef {object} Hooks
 * @property {(cpu: import("iommukit/machine").Cpu) => import("iommukit/machine").Routine} invalidate
 *   returns when no TLB holds what was cleared before it was called
 * @property {(cpu: import("iommukit/machine").Cpu, address: number) =>
 *   import("iommukit/machine").Routine} release takes an address back
 */

export class TwoSlots {
  /** Retirements go into this one. */
  #generation = loneCell("generation");
  /** Generations below this one are given back. */
  #finished = loneCell("finished");
  #flushing = loneCell("flushing");
  #slots;
  #hooks;

  /**
   * @param {number} capacity addresses that a slot holds
   * @param {Hooks} hooks
   */
  constructor(capacity, hooks) {
    this.#hooks = hooks;
    this.#slots = [0, 1].map((index) => {
      const line = new Line(`slot ${index}`);
      return {
        writers: new Cell(line, `writers of slot ${index}`),
        used: new Cell(line, `used of slot ${index}`),
        entries: Array.from({ length: capacity }, (_, n) => loneCell(`slot ${index}[${n}]`)),
      };
    });
  }

  /**
   * Leaves an address whose translation is cleared to the next flush; returns its generation.
   * @param {import("iommukit/machine").Cpu} cpu
   * @param {number} address
   * @returns {import("iommukit/machine").Routine<number>}
   */
  *retire(cpu, address) {
    for (;;) {
      const generation = yield* cpu.load(this.#generation);
      const { writers, used, entries } = this.#slots[generation % 2];
      yield* cpu.fetchAdd(writers, 1);
      // A flush that closed the slot before it could see us does not wait for us.
      const isOpen = (yield* cpu.load(this.#generation)) === generation;
      const index = isOpen ? yield* cpu.fetchAdd(used, 1) : entries.length;
      if (index < entries.length) yield* cpu.store(entries[index], address);
      else if (isOpen) yield* cpu.fetchAdd(used, -1);
      yield* cpu.fetchAdd(writers, -1);
      if (index < entries.length) return generation;
      if (isOpen) yield* this.flush(cpu, generation);
    }
  }

  /**
   * Returns when everything of this generation and of those before it is given back.
   * @param {import("iommukit/machine").Cpu} cpu
   * @param {number} generation
   * @returns {import("iommukit/machine").Routine}
   */
  *flush(cpu, generation) {
    while ((yield* cpu.loadAcquire(this.#finished)) <= generation) {
      if ((yield* cpu.exchange(this.#flushing, 1)) === 0) {
        yield* this.#flushOpen(cpu);
        yield* cpu.storeRelease(this.#flushing, 0);
      } else {
        yield* cpu.waitUntil(this.#flushing, isZero);
      }
    }
  }

  /** @param {import("iommukit/machine").Cpu} cpu */
  *#flushOpen(cpu) {
    const generation = yield* cpu.fetchAdd(this.#generation, 1);
    const { writers, used, entries } = this.#slots[generation % 2];
    yield* cpu.waitUntil(writers, isZero);
    yield* this.#hooks.invalidate(cpu);
    const count = yield* cpu.load(used);
    for (let n = 0; n < count; n++) {
      yield* this.#hooks.release(cpu, yield* cpu.load(entries[n]));
    }
    yield* cpu.store(used, 0);
    yield* cpu.storeRelease(this.#finished, generation + 1);
  }
}

/** @param {number} value */
function isZero(value) {
  return value === 0;
}
