/**
 * The queued spinlock, as the kernel's (kernel/locking/qspinlock.c): one CPU takes a
 * free lock with one compare-exchange, a second waits on the lock word as pending, and
 * further ones queue, each spinning on a line of its own. Under contention a release
 * hence costs a bounded number of line transfers, however many CPUs wait.
 *
 * `SpinLock` is the lock; the queue nodes belong to the CPUs and sit in `SpinNodes`.
 */

import type { Cpu } from "./agent.js";
import { assert } from "./assert.js";
import { Cell, Line, loneCell } from "./cell.js";
import type { Routine } from "./routine.js";

const FREE = 0;
const LOCKED = 1;
const PENDING = 2;
/** Above the flag bits: 1 + index of the queue's last node, 0 when nobody queues. */
const TAIL_UNIT = 4;

/** A CPU may queue again from an interrupt while it queues already: task, softirq, irq, nmi. */
const NESTING_MAX = 4;

interface SpinNode {
  readonly code: number;
  /** 1 when the CPU is at the head of the queue. */
  readonly atHead: Cell;
  /** Code of the node behind, 0 when none is known yet. */
  readonly next: Cell;
}

/** The CPUs' queue nodes: one set for a machine's locks, made as CPUs first wait. */
export class SpinNodes {
  readonly #nodes: (SpinNode | undefined)[] = [];
  readonly #depth: number[] = [];

  take(cpuId: number): SpinNode {
    const depth = this.#depth[cpuId] ?? 0;
    assert(depth < NESTING_MAX, `a CPU waits for at most ${NESTING_MAX} spinlocks at once`);
    this.#depth[cpuId] = depth + 1;
    const index = cpuId * NESTING_MAX + depth;
    const existing = this.#nodes[index];
    if (existing !== undefined) return existing;
    const line = new Line(`spin node ${cpuId}.${depth}`);
    const node: SpinNode = {
      code: index + 1,
      atHead: new Cell(line, "at head"),
      next: new Cell(line, "next"),
    };
    this.#nodes[index] = node;
    return node;
  }

  give(cpuId: number): void {
    this.#depth[cpuId]--;
  }

  byCode(code: number): SpinNode {
    const node = this.#nodes[code - 1];
    assert(node !== undefined, "a queued node exists");
    return node;
  }
}

export class SpinLock {
  readonly word: Cell;
  readonly nodes: SpinNodes;

  /** `nodes` is shared by all locks of a machine; a lock that nests with no other may have its own. */
  constructor(name: string, nodes: SpinNodes = new SpinNodes()) {
    this.word = loneCell(name, FREE);
    this.nodes = nodes;
  }

  /** Waits until the lock is this CPU's. */
  *acquire(cpu: Cpu): Routine {
    if ((yield* cpu.compareExchange(this.word, FREE, LOCKED, "acquire")) !== FREE)
      yield* this.#wait(cpu);
  }

  *release(cpu: Cpu): Routine {
    const word = yield* cpu.fetchAdd(this.word, -LOCKED, "release");
    assert(word % PENDING === LOCKED, `the lock ${this.word.name} is held when it is released`);
  }

  /** Takes the lock if it is free; never waits. */
  *tryAcquire(cpu: Cpu): Routine<boolean> {
    return (yield* cpu.compareExchange(this.word, FREE, LOCKED, "acquire")) === FREE;
  }

  /** With interrupts off, so that a handler on this CPU cannot want the same lock. */
  *acquireIrqSave(cpu: Cpu): Routine {
    cpu.irqDisable();
    if ((yield* cpu.compareExchange(this.word, FREE, LOCKED, "acquire")) !== FREE)
      yield* this.#wait(cpu);
  }

  *releaseIrqRestore(cpu: Cpu): Routine {
    yield* cpu.fetchAdd(this.word, -LOCKED, "release");
    cpu.irqEnable();
  }

  *#wait(cpu: Cpu): Routine {
    const before = yield* cpu.fetchOr(this.word, PENDING, "acquire");
    if (before < PENDING) {
      // Second in line: the pending bit is ours; wait on the word itself.
      if (before === LOCKED) yield* cpu.waitUntil(this.word, isUnlocked);
      yield* cpu.fetchAdd(this.word, LOCKED - PENDING, "relaxed");
      return;
    }
    if (before % TAIL_UNIT < PENDING) yield* cpu.fetchAnd(this.word, ~PENDING >>> 0, "relaxed");
    yield* this.#queue(cpu);
  }

  *#queue(cpu: Cpu): Routine {
    const node = this.nodes.take(cpu.id);
    yield* cpu.store(node.atHead, 0);
    yield* cpu.store(node.next, 0);
    const previous = yield* this.#exchangeTail(cpu, node.code);
    if (previous !== 0) {
      yield* cpu.storeRelease(this.nodes.byCode(previous).next, node.code);
      yield* cpu.waitUntil(node.atHead, isSet);
    }
    // At the head: the holder and the pending one go first.
    let word = yield* cpu.waitUntil(this.word, hasNoOwner);
    for (;;) {
      const last = Math.floor(word / TAIL_UNIT) === node.code;
      const desired = last ? LOCKED : word + LOCKED;
      const found = yield* cpu.compareExchange(this.word, word, desired, "acquire");
      if (found === word) {
        if (!last) yield* this.#handOver(cpu, node);
        break;
      }
      // Somebody queued behind, or set the pending bit in error and will take it back: the
      // bit must not be stored away here, or taking it back would hit the next pending CPU.
      word = yield* cpu.waitUntil(this.word, hasNoOwner);
    }
    this.nodes.give(cpu.id);
  }

  *#handOver(cpu: Cpu, node: SpinNode): Routine {
    const next = yield* cpu.waitUntil(node.next, isSet);
    yield* cpu.storeRelease(this.nodes.byCode(next).atHead, 1);
  }

  /** Puts `code` into the tail of the word and returns the tail before. */
  *#exchangeTail(cpu: Cpu, code: number): Routine<number> {
    let word = yield* cpu.load(this.word);
    for (;;) {
      const desired = code * TAIL_UNIT + (word % TAIL_UNIT);
      // Who comes behind writes to the node: it is ready before it can be found.
      const found = yield* cpu.compareExchange(this.word, word, desired, "release");
      if (found === word) return Math.floor(word / TAIL_UNIT);
      word = found;
    }
  }
}

function isUnlocked(word: number): boolean {
  return (word & LOCKED) === 0;
}

function hasNoOwner(word: number): boolean {
  return (word & (LOCKED | PENDING)) === 0;
}

function isSet(value: number): boolean {
  return value !== 0;
}
