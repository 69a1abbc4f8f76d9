/**
 * The allocator that Linux uses: the tree, with magazines in front (kernel: struct
 * iova_domain, alloc_iova_fast() and free_iova_fast()).
 *
 * The fast path is one generator and one lock whose line stays in the CPU's own cache:
 * the free lock is taken in line, and `SpinLock` is asked only when somebody holds it.
 */

import { assert, type Cpu, type Routine, SpinNodes, Work } from "#machine";
import { AllocateFlag, type CommonSpaceCounts, type IovaAllocator, NO_IOVA } from "./allocator.js";
import {
  CACHED_PAGES_MAX,
  type DepotPolicy,
  MAGAZINE_PFNS,
  type Magazine,
  RangeCaches,
  UNBOUNDED_DEPOT,
} from "./magazines.js";
import { IovaTree, type PfnRange } from "./tree.js";

/** Values of `SpinLock.word` of a lock that nobody waits for. */
const FREE = 0;
const LOCKED = 1;

export interface IovaDomainOptions {
  /** Smallest page size of the domain; a power of two. */
  readonly granuleBytes: number;
  /** Lowest page ever handed out; at least 1, for address 0 is never valid. */
  readonly startPfn: number;
  /** CPUs of the machine: as many full magazines per bin an unbounded depot keeps for good. */
  readonly cpuCount: number;
  /** A CPU waits for one of the domain's locks at a time, with interrupts off. */
  readonly spinNodes?: SpinNodes;
  /** Page numbers per magazine; 127 where not given, as in the kernel. */
  readonly magazinePfns?: number;
  /** `UNBOUNDED_DEPOT` where not given. */
  readonly depot?: DepotPolicy;
}

export class IovaDomain implements IovaAllocator {
  readonly granuleBytes: number;
  readonly cachedPagesMax = CACHED_PAGES_MAX;
  readonly #tree: IovaTree;
  readonly #caches: RangeCaches;

  constructor(options: IovaDomainOptions) {
    const granuleLg2 = Math.log2(options.granuleBytes);
    assert(Number.isInteger(granuleLg2), "the granule is a power of two");
    const spinNodes = options.spinNodes ?? new SpinNodes();
    this.granuleBytes = options.granuleBytes;
    this.#tree = new IovaTree({ granuleLg2, startPfn: options.startPfn, spinNodes });
    const { cpuCount, magazinePfns = MAGAZINE_PFNS, depot = UNBOUNDED_DEPOT } = options;
    this.#caches = new RangeCaches(this.#tree, { cpuCount, spinNodes, magazinePfns, depot });
  }

  *allocate(cpu: Cpu, pages: number, limitPfn: number, flags: number): Routine<number> {
    assert(pages >= 1, "a range has at least one page");
    let takenPages = pages;
    if (pages <= CACHED_PAGES_MAX) {
      // What is freed enters the bin of its size, where every range has to fit every request:
      // so it is rounded up to a power of two when it is taken.
      const bin = binOf(pages);
      takenPages = 1 << bin;
      const cache = this.#caches.of(cpu.id)[bin];
      cpu.irqDisable();
      const word = yield* cpu.compareExchange(cache.lock.word, FREE, LOCKED, "acquire");
      if (word !== FREE) yield* cache.lock.acquire(cpu);
      if (!cache.hasRange()) yield* this.#caches.refill(cpu, bin, cache);
      const cachedPfn = cache.loaded.pop(limitPfn - takenPages + 1);
      cpu.work(Work.magazine);
      yield* cpu.fetchAdd(cache.lock.word, -LOCKED, "release");
      cpu.irqEnable();
      if (cachedPfn !== NO_IOVA) return cachedPfn;
    }
    const pfn = yield* this.#tree.allocate(cpu, takenPages, limitPfn);
    if (pfn !== NO_IOVA || (flags & AllocateFlag.flushCaches) === 0) return pfn;
    yield* this.#caches.flush(cpu);
    return yield* this.#tree.allocate(cpu, takenPages, limitPfn);
  }

  *free(cpu: Cpu, pfn: number, pages: number): Routine {
    if (pages > CACHED_PAGES_MAX) {
      yield* this.#tree.free(cpu, pfn);
      return;
    }
    const bin = binOf(pages);
    const cache = this.#caches.of(cpu.id)[bin];
    cpu.irqDisable();
    const word = yield* cpu.compareExchange(cache.lock.word, FREE, LOCKED, "acquire");
    if (word !== FREE) yield* cache.lock.acquire(cpu);
    let excess: Magazine | undefined;
    if (!cache.hasRoom()) excess = yield* this.#caches.unload(cpu, bin, cache);
    cache.loaded.push(pfn);
    cpu.work(Work.magazine);
    yield* cpu.fetchAdd(cache.lock.word, -LOCKED, "release");
    cpu.irqEnable();
    if (excess !== undefined) yield* this.#caches.giveBack(cpu, excess);
  }

  reserve(cpu: Cpu, firstPfn: number, lastPfn: number): Routine {
    return this.#tree.reserve(cpu, firstPfn, lastPfn);
  }

  *destroy(cpu: Cpu): Routine {
    this.#caches.destroy(cpu);
  }

  get common(): Readonly<CommonSpaceCounts> {
    return this.#tree.counts;
  }

  /** Taken ranges in ascending order, reserved and cached ones included: for tools. */
  ranges(): IterableIterator<PfnRange> {
    return this.#tree.ranges();
  }

  /** Ranges that caches hold: taken in the tree and in nobody's use. For tools. */
  cached(): IterableIterator<{ readonly pfn: number; readonly pages: number }> {
    return this.#caches.cached();
  }

  /** Asserts the rules that tie caches and tree. */
  check(): void {
    this.#tree.check();
    const taken = new Map<number, number>();
    for (const range of this.#tree.ranges()) taken.set(range.firstPfn, range.lastPfn);
    for (const { pfn, pages } of this.#caches.cached()) {
      const lastPfn = taken.get(pfn);
      assert(lastPfn !== undefined, "a cached range is taken in the tree, and cached once");
      assert(lastPfn - pfn < pages, "a cached range is of its bin's size");
      taken.delete(pfn);
    }
  }
}

/** Log2 of the pages, rounded up. */
function binOf(pages: number): number {
  return 32 - Math.clz32(pages - 1);
}
