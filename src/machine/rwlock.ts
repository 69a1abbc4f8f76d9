/**
 * The queued reader-writer lock, as the kernel's (kernel/locking/qrwlock.c): one word counts
 * the readers and says whether a writer has the lock or waits for it; whoever has to wait
 * queues in a spinlock, so that readers and writers are served in their order.
 */

import type { Cpu } from "./agent.js";
import { assert } from "./assert.js";
import { Cell, type Line } from "./cell.js";
import type { Routine } from "./routine.js";
import { SpinLock, type SpinNodes } from "./spinlock.js";

const WRITER = 1;
const WRITER_WAITS = 2;
/** Above the writers' bits: one per reader. */
const READER = 4;

export class RwLock {
  readonly word: Cell;
  readonly #queue: SpinLock;

  /** The word lies on `line`, with what it protects; `nodes` as for a spinlock. */
  constructor(line: Line, name: string, nodes?: SpinNodes) {
    this.word = new Cell(line, name);
    this.#queue = new SpinLock(`${name} queue`, nodes);
  }

  /** With interrupts off, so that a handler's writer cannot wait for its own CPU's reader. */
  *readLockIrqSave(cpu: Cpu): Routine {
    cpu.irqDisable();
    const before = yield* cpu.fetchAdd(this.word, READER, "acquire");
    if (before % READER === 0) return;
    // A writer is there: step back, queue, and go in when the one before us has left.
    yield* cpu.fetchAdd(this.word, -READER, "relaxed");
    yield* this.#queue.acquire(cpu);
    yield* cpu.fetchAdd(this.word, READER, "relaxed");
    yield* cpu.waitUntil(this.word, hasNoWriter);
    yield* this.#queue.release(cpu);
  }

  *readUnlockIrqRestore(cpu: Cpu): Routine {
    const before = yield* cpu.fetchAdd(this.word, -READER, "release");
    assert(before >= READER, `${this.word.name} is read-locked when it is released`);
    cpu.irqEnable();
  }

  *writeLockIrqSave(cpu: Cpu): Routine {
    cpu.irqDisable();
    if ((yield* cpu.compareExchange(this.word, 0, WRITER, "acquire")) === 0) return;
    yield* this.#queue.acquire(cpu);
    yield* cpu.fetchOr(this.word, WRITER_WAITS, "relaxed");
    for (;;) {
      yield* cpu.waitUntil(this.word, isOnlyWaitedFor);
      const found = yield* cpu.compareExchange(this.word, WRITER_WAITS, WRITER, "acquire");
      if (found === WRITER_WAITS) break;
    }
    yield* this.#queue.release(cpu);
  }

  *writeUnlockIrqRestore(cpu: Cpu): Routine {
    const before = yield* cpu.fetchAdd(this.word, -WRITER, "release");
    assert((before & WRITER) !== 0, `${this.word.name} is write-locked when it is released`);
    cpu.irqEnable();
  }
}

/** A reader at the head of the queue waits for a writer inside only: nobody can wait before it. */
function hasNoWriter(word: number): boolean {
  return (word & WRITER) === 0;
}

function isOnlyWaitedFor(word: number): boolean {
  return word === WRITER_WAITS;
}
