/**
 * Range caches: in front of the tree, each CPU keeps freed ranges in magazines (kernel:
 * the rcache part of drivers/iommu/iova.c). There is a bin per power of two of pages, so
 * every range in a bin fits every request for it. A CPU has two magazines per bin,
 * `loaded` and `previous`, under a lock on the CPU's own line; full magazines travel
 * between CPUs through a depot.
 *
 * A cached range stays taken in the tree, which can hence never hand it out. Each lock
 * guards plain data; the order is CPU cache, depot, tree.
 */

import {
  assert,
  Cell,
  type Cpu,
  type Interrupt,
  Line,
  type Routine,
  SpinLock,
  type SpinNodes,
  Work,
} from "#machine";
import { type CommonSpaceCounts, NO_IOVA } from "./allocator.js";
import type { IovaTree } from "./tree.js";

/** Page numbers per magazine: with its 8-byte header it fills one 1024-byte allocation. */
export const MAGAZINE_PFNS = 127;
/** Bins for 1, 2, 4 … 32 pages: what drivers map per request. */
export const BINS = 6;
export const CACHED_PAGES_MAX = 2 ** (BINS - 1);

/**
 * What becomes of full magazines that no CPU has room for. Since Linux 6.7 the depot takes all of
 * them, and while it has more than one per CPU it gives one back to the tree after each
 * `trimDelayNs` (911aa1245da8 and the commit behind it, 2023). Before, it took up to
 * `magazinesMax` per bin for good, and the next one went back to the tree at once
 * (9257b4a206fc, 2016, MAX_GLOBAL_MAGS).
 */
export type DepotPolicy =
  | { readonly kind: "unbounded"; readonly trimDelayNs: number }
  | { readonly kind: "bounded"; readonly magazinesMax: number };

/** A burst of frees keeps its magazines this long before the depot is trimmed. */
export const DEPOT_TRIM_DELAY_NS = 100e6;
export const UNBOUNDED_DEPOT: DepotPolicy = {
  kind: "unbounded",
  trimDelayNs: DEPOT_TRIM_DELAY_NS,
};

/** A stack of page numbers. */
export class Magazine {
  readonly pfns: Float64Array;
  count = 0;

  constructor(capacity: number) {
    this.pfns = new Float64Array(capacity);
  }

  get isFull(): boolean {
    return this.count === this.pfns.length;
  }

  push(pfn: number): void {
    assert(!this.isFull, "a full magazine takes no more");
    this.pfns[this.count++] = pfn;
  }

  /** Takes the topmost range whose first page is at or below `firstMax`, or returns `NO_IOVA`. */
  pop(firstMax: number): number {
    const pfns = this.pfns;
    for (let index = this.count - 1; index >= 0; index--) {
      const pfn = pfns[index];
      if (pfn > firstMax) continue;
      pfns[index] = pfns[--this.count];
      return pfn;
    }
    return NO_IOVA;
  }
}

/** One CPU's cache of one bin. Everything but the lock belongs to the lock's holder. */
export class CpuCache {
  readonly lock: SpinLock;
  loaded: Magazine;
  previous: Magazine;

  constructor(name: string, spinNodes: SpinNodes, magazinePfns: number) {
    this.loaded = new Magazine(magazinePfns);
    this.previous = new Magazine(magazinePfns);
    this.lock = new SpinLock(name, spinNodes);
  }

  /** Makes `loaded` one that a range can be taken from, if the CPU has one. */
  hasRange(): boolean {
    if (this.loaded.count > 0) return true;
    if (this.previous.count === 0) return false;
    this.#swap();
    return true;
  }

  /** Makes `loaded` one that has room, if the CPU has one. */
  hasRoom(): boolean {
    if (!this.loaded.isFull) return true;
    if (this.previous.isFull) return false;
    this.#swap();
    return true;
  }

  #swap(): void {
    const loaded = this.loaded;
    this.loaded = this.previous;
    this.previous = loaded;
  }
}

/** What the CPUs share of one bin: full magazines, last in first out. */
class Depot {
  readonly full: Magazine[] = [];
  readonly #lock: SpinLock;
  readonly #counts: CommonSpaceCounts;
  readonly #policy: DepotPolicy;
  /** 1 while a trim is due (the pending bit of the kernel's delayed work). */
  readonly trimDue: Cell;
  readonly #trim: (cpu: Cpu, depot: Depot) => Routine;
  readonly #timers: (Interrupt | undefined)[] = [];

  constructor(
    bin: number,
    spinNodes: SpinNodes,
    policy: DepotPolicy,
    counts: CommonSpaceCounts,
    trim: (cpu: Cpu, depot: Depot) => Routine,
  ) {
    this.#policy = policy;
    this.#counts = counts;
    this.#trim = trim;
    this.#lock = new SpinLock(`iova depot ${bin}`, spinNodes);
    this.trimDue = new Cell(new Line(`iova depot ${bin} trim`), "trim due");
  }

  get isFull(): boolean {
    const policy = this.#policy;
    return policy.kind === "bounded" && this.full.length >= policy.magazinesMax;
  }

  /** Waits for the lock with interrupts off; returns when that began. */
  *acquire(cpu: Cpu): Routine<number> {
    // Nothing that comes in between shall count.
    cpu.irqDisable();
    const beganNs = cpu.now();
    yield* this.#lock.acquire(cpu);
    return beganNs;
  }

  /** Lets go of the lock, and counts the time since `beganNs`. */
  *release(cpu: Cpu, beganNs: number): Routine {
    yield* this.#lock.release(cpu);
    this.#counts.busyNs += cpu.now() - beganNs;
    cpu.irqEnable();
  }

  /** Starts the trim's delay on this CPU unless it runs already, or there is none. */
  *scheduleTrim(cpu: Cpu): Routine {
    const policy = this.#policy;
    if (policy.kind === "bounded") return;
    if ((yield* cpu.exchange(this.trimDue, 1)) !== 0) return;
    const timer = (this.#timers[cpu.id] ??= {
      name: "iova depot trim",
      cpuId: cpu.id,
      handler: (on) => this.#trim(on, this),
    });
    cpu.armTimer(timer, policy.trimDelayNs);
  }

  cancelTrim(cpu: Cpu): void {
    for (const timer of this.#timers) if (timer !== undefined) cpu.cancelTimer(timer);
  }
}

export interface RangeCachesOptions {
  /** As many full magazines per bin an unbounded depot keeps for good. */
  readonly cpuCount: number;
  readonly spinNodes: SpinNodes;
  readonly magazinePfns: number;
  readonly depot: DepotPolicy;
}

export class RangeCaches {
  readonly #tree: IovaTree;
  readonly #options: RangeCachesOptions;
  /** By CPU, then by bin; a CPU's are made when it first allocates or frees. */
  readonly #caches: (readonly CpuCache[] | undefined)[] = [];
  readonly #depots: readonly Depot[];
  /** Emptied magazines, for reuse. */
  readonly #spare: Magazine[] = [];
  #destroyed = false;

  constructor(tree: IovaTree, options: RangeCachesOptions) {
    this.#tree = tree;
    this.#options = options;
    const trim = (cpu: Cpu, depot: Depot) => this.#trim(cpu, depot);
    this.#depots = Array.from(
      { length: BINS },
      (_, bin) => new Depot(bin, options.spinNodes, options.depot, tree.counts, trim),
    );
  }

  /** The caches of a CPU, by bin. */
  of(cpuId: number): readonly CpuCache[] {
    return this.#caches[cpuId] ?? this.#makeCaches(cpuId);
  }

  #makeCaches(cpuId: number): readonly CpuCache[] {
    const { spinNodes, magazinePfns } = this.#options;
    const bins = Array.from(
      { length: BINS },
      (_, bin) => new CpuCache(`iova cache ${cpuId}.${bin}`, spinNodes, magazinePfns),
    );
    this.#caches[cpuId] = bins;
    return bins;
  }

  /** Loads a full magazine from the depot; both of the CPU's are empty and its lock is held. */
  *refill(cpu: Cpu, bin: number, cache: CpuCache): Routine {
    const depot = this.#depots[bin];
    const beganNs = yield* depot.acquire(cpu);
    const full = depot.full.pop();
    if (full !== undefined) {
      this.#spare.push(cache.loaded);
      cache.loaded = full;
    }
    yield* depot.release(cpu, beganNs);
  }

  /**
   * Hands the loaded magazine to the depot; both of the CPU's are full and its lock is held. If the
   * depot is full, returns the magazine, for `giveBack` once the CPU's lock is free.
   */
  *unload(cpu: Cpu, bin: number, cache: CpuCache): Routine<Magazine | undefined> {
    const depot = this.#depots[bin];
    const unloaded = cache.loaded;
    const empty = this.#spare.pop() ?? new Magazine(this.#options.magazinePfns);
    const beganNs = yield* depot.acquire(cpu);
    const isFull = depot.isFull;
    if (!isFull) depot.full.push(unloaded);
    yield* depot.release(cpu, beganNs);
    cache.loaded = empty;
    if (isFull) return unloaded;
    yield* depot.scheduleTrim(cpu);
    return undefined;
  }

  /** Gives the ranges of a magazine that nobody else knows back to the tree. */
  *giveBack(cpu: Cpu, full: Magazine): Routine {
    yield* this.#empty(cpu, full);
    this.#spare.push(full);
  }

  /** Gives back one magazine per delay while the depot holds more than one per CPU. */
  *#trim(cpu: Cpu, depot: Depot): Routine {
    yield* cpu.store(depot.trimDue, 0);
    if (this.#destroyed) return;
    const beganNs = yield* depot.acquire(cpu);
    const full = depot.full.length > this.#options.cpuCount ? depot.full.pop() : undefined;
    yield* depot.release(cpu, beganNs);
    if (full === undefined) return;
    yield* this.giveBack(cpu, full);
    yield* depot.scheduleTrim(cpu);
  }

  /** Gives everything that all CPUs and the depots hold back to the tree. */
  *flush(cpu: Cpu): Routine {
    for (const bins of this.#caches) {
      for (const cache of bins ?? []) {
        yield* cache.lock.acquireIrqSave(cpu);
        yield* this.#empty(cpu, cache.loaded);
        yield* this.#empty(cpu, cache.previous);
        yield* cache.lock.releaseIrqRestore(cpu);
      }
    }
    for (const depot of this.#depots) {
      const beganNs = yield* depot.acquire(cpu);
      this.#tree.counts.busyNs += cpu.now() - beganNs;
      // The tree counts the time of what is given back to it.
      for (let full = depot.full.pop(); full !== undefined; full = depot.full.pop()) {
        yield* this.giveBack(cpu, full);
      }
      yield* depot.release(cpu, cpu.now());
    }
  }

  *#empty(cpu: Cpu, magazine: Magazine): Routine {
    if (magazine.count === 0) return;
    cpu.work(Work.magazine, magazine.count);
    yield* this.#tree.freeMany(cpu, magazine.pfns, magazine.count);
    magazine.count = 0;
  }

  /** No trim starts any more; what is cached dies with the tree. */
  destroy(cpu: Cpu): void {
    this.#destroyed = true;
    for (const depot of this.#depots) depot.cancelTrim(cpu);
  }

  /** First pages of all cached ranges with the pages of their bin: for tools and tests. */
  *cached(): IterableIterator<{ readonly pfn: number; readonly pages: number }> {
    for (let bin = 0; bin < BINS; bin++) {
      const magazines = [...this.#depots[bin].full];
      for (const bins of this.#caches) {
        if (bins !== undefined) magazines.push(bins[bin].loaded, bins[bin].previous);
      }
      for (const magazine of magazines) {
        for (let index = 0; index < magazine.count; index++) {
          yield { pfn: magazine.pfns[index], pages: 2 ** bin };
        }
      }
    }
  }
}
