/**
 * The ticket spinlock (kernel: arch/arm64/include/asm/spinlock.h up to 4.18): a CPU draws the next
 * number and waits until it is served. All who wait watch one line, so that a release costs as
 * many transfers as there are waiters; the queued lock (`SpinLock`) took its place for that.
 */

import type { CellTest, Cpu } from "./agent.js";
import { assert } from "./assert.js";
import { Cell, Line } from "./cell.js";
import type { Routine } from "./routine.js";

/** A CPU's number, and the test for its turn: made once, so that waiting allocates nothing. */
interface Waiter {
  /** The number drawn last; `NO_TICKET` while the CPU neither waits nor holds. */
  ticket: number;
  readonly isServed: CellTest;
}

const NO_TICKET = -1;

export class TicketLock {
  readonly #next: Cell;
  readonly #owner: Cell;
  readonly #waiters: (Waiter | undefined)[] = [];

  constructor(name: string) {
    const line = new Line(name);
    this.#next = new Cell(line, `${name} next`);
    this.#owner = new Cell(line, `${name} owner`);
  }

  /** With interrupts off, so that a handler on this CPU cannot want the same lock. */
  *acquireIrqSave(cpu: Cpu): Routine {
    cpu.irqDisable();
    const ticket = yield* cpu.fetchAdd(this.#next, 1, "acquire");
    const waiter = this.#waiterOf(cpu.id);
    waiter.ticket = ticket;
    yield* cpu.waitUntil(this.#owner, waiter.isServed);
  }

  *releaseIrqRestore(cpu: Cpu): Routine {
    const waiter = this.#waiterOf(cpu.id);
    const { ticket } = waiter;
    assert(ticket !== NO_TICKET, `the lock of ${this.#owner.name} is held when it is released`);
    waiter.ticket = NO_TICKET;
    yield* cpu.storeRelease(this.#owner, ticket + 1);
    cpu.irqEnable();
  }

  #waiterOf(cpuId: number): Waiter {
    const known = this.#waiters[cpuId];
    if (known !== undefined) return known;
    const waiter: Waiter = { ticket: NO_TICKET, isServed: (owner) => owner === waiter.ticket };
    this.#waiters[cpuId] = waiter;
    return waiter;
  }
}
