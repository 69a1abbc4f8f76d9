/**
 * Read-copy update: readers use a version of a structure without a lock, a writer publishes
 * the next version and frees the old one after a *grace period*, when no reader can still
 * have it (kernel: Documentation/RCU/whatisRCU.rst; Desnoyers et al., "User-Level
 * Implementations of Read-Copy Update", IEEE TPDS 23(2), 2012).
 *
 * Each CPU has two counters: sections entered and sections left. A grace period notes every
 * CPU's `entered` and waits until its `left` has come that far; sections that begin later are
 * not waited for. Two counters and not one flag, because a late store of "left" must never
 * overwrite the "entered" of the next section.
 *
 * Why a reader's mark cannot hide in a store buffer. A reader marks itself and then loads the
 * pointer; the writer stores the pointer and then looks at the marks: the store-buffering
 * shape. If the mark could wait in the reader's buffer, both might miss each other. The
 * kernel's readers have no barrier either. There the mark is that the CPU does not schedule,
 * and whoever ends a grace period has seen each CPU pass through the scheduler, which is a
 * full barrier on *that* CPU. Here `entered` is a wire (`poke`): it takes effect where it
 * stands, before the loads that follow, and costs nothing, like that knowledge of the
 * scheduler. `left` is a store-release: whatever the section did is visible before it, and
 * when it is late it only makes the grace period longer.
 *
 * Writer: its publication is ordered before its look at the marks by a full barrier. Either
 * it sees the mark, and waits; or the mark came later, and the reader's load, later still,
 * finds the new version.
 *
 * `Rcu` owns the counters and the deferred calls. It must not be waited for within a section.
 */

import type { Cpu } from "./agent.js";
import { assert } from "./assert.js";
import { type Cell, loneCell, wireCell } from "./cell.js";
import type { Routine } from "./routine.js";

interface ReaderState {
  /** Outermost sections entered; only the CPU itself pokes it. */
  readonly entered: Cell;
  /** Outermost sections left; at most `entered`. */
  readonly left: Cell;
  /** What `entered` holds, and how deep the CPU is in sections: only the CPU itself asks. */
  sections: number;
  depth: number;
}

interface DeferredCall {
  /** By CPU: sections that had been entered when the call was made. */
  readonly entered: readonly number[];
  readonly run: () => void;
}

export class Rcu {
  readonly #readers: ReaderState[] = [];
  /** By the CPU that made them: nobody else touches a CPU's list. */
  readonly #calls: DeferredCall[][] = [];

  /** For CPUs 0 to `cpuCount` - 1; others join when they first read. */
  constructor(cpuCount = 0) {
    for (let id = 0; id < cpuCount; id++) this.#reader(id);
  }

  /**
   * Begins a section: what `RcuPointer` yields stays alive until `readUnlock`. The CPU may wait
   * within it, as a CPU with preemption off may spin.
   */
  readLock(cpu: Cpu): void {
    const reader = this.#readers[cpu.id] ?? this.#reader(cpu.id);
    if (reader.depth++ === 0) cpu.poke(reader.entered, ++reader.sections);
  }

  *readUnlock(cpu: Cpu): Routine {
    const reader = this.#readers[cpu.id];
    assert(reader.depth > 0, "a section that ends has begun");
    if (reader.depth > 1) {
      reader.depth--;
      return;
    }
    // A handler that came between the two would be in a section that nobody waits for.
    cpu.irqDisable();
    yield* cpu.storeRelease(reader.left, reader.sections);
    reader.depth = 0;
    cpu.irqEnable();
  }

  /** Whether the CPU is in a section. */
  isReading(cpu: Cpu): boolean {
    return (this.#readers[cpu.id]?.depth ?? 0) > 0;
  }

  /** Waits until every section that is under way now has ended (kernel: synchronize_rcu()). */
  *synchronize(cpu: Cpu): Routine {
    assert(!this.isReading(cpu), "nobody waits for a grace period within a section");
    const entered = yield* this.#snapshot(cpu);
    for (let id = 0; id < entered.length; id++) {
      yield* cpu.waitUntil(this.#readers[id].left, (left) => left >= entered[id]);
    }
    // What the sections did comes before what the caller does next.
    yield* cpu.fence("full");
    yield* this.#runDue(cpu);
  }

  /**
   * Runs `run` some time after every section that is under way now has ended (kernel:
   * call_rcu()), and does not wait. The kernel looks on its ticks whether a grace period is
   * over; here the CPU's next `call`, `synchronize` or `barrier` does. `run` does not wait
   * for anything either.
   */
  *call(cpu: Cpu, run: () => void): Routine {
    yield* this.#runDue(cpu);
    const entered = yield* this.#snapshot(cpu);
    (this.#calls[cpu.id] ??= []).push({ entered, run });
  }

  /** Waits until all calls that this CPU made have run (kernel: rcu_barrier(), for one CPU). */
  *barrier(cpu: Cpu): Routine {
    // A grace period that starts now covers those of all calls before it.
    yield* this.synchronize(cpu);
    assert((this.#calls[cpu.id] ?? []).length === 0, "a grace period ends all earlier ones");
  }

  /** Calls that have not run yet. */
  get pendingCalls(): number {
    return this.#calls.reduce((sum, calls) => sum + (calls?.length ?? 0), 0);
  }

  /** Each CPU's count of sections entered, read after everything this CPU stored before. */
  *#snapshot(cpu: Cpu): Routine<number[]> {
    yield* cpu.fence("full");
    const entered: number[] = [];
    for (const reader of this.#readers) entered.push(yield* cpu.load(reader.entered));
    return entered;
  }

  /** Runs this CPU's calls in their order, up to the first whose grace period goes on. */
  *#runDue(cpu: Cpu): Routine {
    const calls = this.#calls[cpu.id];
    while (calls !== undefined && calls.length > 0) {
      const { entered, run } = calls[0];
      for (let id = 0; id < entered.length; id++) {
        if ((yield* cpu.loadAcquire(this.#readers[id].left)) < entered[id]) return;
      }
      calls.shift();
      run();
    }
  }

  #reader(id: number): ReaderState {
    for (let next = this.#readers.length; next <= id; next++) {
      const entered = wireCell(`rcu cpu${next} entered`);
      const left = loneCell(`rcu cpu${next} left`);
      this.#readers.push({ entered, left, sections: 0, depth: 0 });
    }
    return this.#readers[id];
  }
}

/**
 * A shared pointer to the current version of something. Writers are serialised by their own
 * lock; `T`'s plain fields are immutable once it was assigned.
 */
export class RcuPointer<T extends object> {
  /** Number of the current version; readers load it within a section and call `version`. */
  readonly cell: Cell;
  readonly #versions = new Map<number, T>();
  #last = 0;
  #current: T;

  /** `first` is there from the start: readers never find nothing. */
  constructor(name: string, first: T) {
    this.cell = loneCell(name, 0);
    this.#versions.set(0, first);
    this.#current = first;
  }

  /**
   * The version with the number that the cell held (rcu_dereference(): the number leads to
   * the version, so the load of the one comes before any load from the other).
   */
  version(number: number): T {
    if (number === this.#last) return this.#current;
    const version = this.#versions.get(number);
    if (version === undefined) assert(false, `version ${number} of ${this.cell.name} is not freed`);
    return version;
  }

  /** The current version; for the holder of the writers' lock. */
  get current(): T {
    return this.#current;
  }

  /** Publishes `next`, all of which is visible before it is; returns the number of the old one. */
  *assign(cpu: Cpu, next: T): Routine<number> {
    const old = this.#last;
    this.#last = old + 1;
    this.#current = next;
    this.#versions.set(this.#last, next);
    yield* cpu.storeRelease(this.cell, this.#last);
    return old;
  }

  /** Frees a version that no reader can have any more; who still finds it has a bug. */
  free(number: number): void {
    assert(number !== this.#last, "the current version is not freed");
    this.#versions.delete(number);
  }

  /** Versions that were replaced and not freed yet, oldest first; as `current`, for the writer. */
  get retired(): readonly T[] {
    const last = this.current;
    return [...this.#versions.values()].filter((version) => version !== last);
  }

  /** Versions that exist: one, and those whose grace period is not over. */
  get versionCount(): number {
    return this.#versions.size;
  }
}
