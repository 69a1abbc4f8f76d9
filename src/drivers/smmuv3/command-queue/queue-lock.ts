/**
 * The lock around the command queue's shadow consumer index (kernel: the "bastardised
 * rwlock" of arm-smmu-v3.c, with the fair waiters that 2026 kernels have).
 *
 * CMD_SYNC waiters hold it shared: while any does, nobody but the last of them advances
 * the shadow consumer index, so the queue cannot wrap twice over a slot that somebody
 * still watches. A CPU that needs space holds it exclusively to re-read the register.
 * The value counts the shared holders; exclusively held, it is negative.
 */

import { Cell, type Cpu, type Line, type Routine, type Step } from "#machine";

/** Added while held exclusively: more than any number of shared holders (INT_MIN). */
const EXCLUSIVE = 2 ** 31;

export class QueueLock {
  readonly #holders: Cell;

  constructor(line: Line) {
    this.#holders = new Cell(line, "cmdq lock");
  }

  /**
   * For `count` holders at once. They are counted in first, so that no further exclusive
   * holder can overtake them.
   */
  *lockShared(cpu: Cpu, count: number): Routine {
    const before = yield* cpu.fetchAdd(this.#holders, count, "relaxed");
    if (before < 0) yield* cpu.waitUntil(this.#holders, isPositive);
  }

  unlockShared(cpu: Cpu): Step<number> {
    return cpu.fetchAdd(this.#holders, -1, "release");
  }

  /** Number of shared holders, as it appears; 1 tells a holder that it is the last. */
  holders(cpu: Cpu): Step<number> {
    return cpu.load(this.#holders);
  }

  /** Never waits. The caller has interrupts off. */
  *tryLockExclusive(cpu: Cpu): Routine<boolean> {
    return (yield* cpu.compareExchange(this.#holders, 0, -EXCLUSIVE, "relaxed")) === 0;
  }

  /** Keeps the counts of those who wait: they hold the lock from here on. */
  unlockExclusive(cpu: Cpu): Step<number> {
    return cpu.fetchAdd(this.#holders, EXCLUSIVE, "release");
  }
}

function isPositive(value: number): boolean {
  return value > 0;
}
