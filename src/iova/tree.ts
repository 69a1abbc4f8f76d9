/**
 * The tree allocator: one red-black tree of everything that is taken, under one lock
 * (kernel: drivers/iommu/iova.c). It hands out the highest free aligned range below the
 * limit, starting from where the last search ended, so that the common case looks at one
 * or two nodes; the space below 4 GiB, which some devices cannot do without, has such a
 * starting point of its own.
 *
 * `IovaTree` owns tree and lock. Reserved ranges are nodes like any other.
 */

import { assert, type Cpu, hex, type Routine, SpinLock, type SpinNodes, Work } from "#machine";
import { type CommonSpaceCounts, NO_IOVA } from "./allocator.js";
import { NIL, RangeTree } from "./range-tree.js";

/** Page number of the node above everything, which no search has to test for (all ones). */
const ANCHOR_PFN = Number.MAX_SAFE_INTEGER;

export interface IovaTreeOptions {
  /** Log2 of the bytes of a page. */
  readonly granuleLg2: number;
  /** Lowest page ever handed out; at least 1. */
  readonly startPfn: number;
  readonly spinNodes?: SpinNodes;
}

/** A taken range of pages, last one inclusive. */
export interface PfnRange {
  readonly firstPfn: number;
  readonly lastPfn: number;
}

export class IovaTree {
  /** First page at or above 4 GiB. */
  readonly #above32Pfn: number;
  readonly #startPfn: number;
  readonly #lock: SpinLock;
  readonly counts: CommonSpaceCounts = { allocations: 0, frees: 0, busyNs: 0 };
  // Private to the lock's holder from here on.
  readonly #tree = new RangeTree();
  readonly #anchor: number;
  /** Where the last search beyond 4 GiB ended. */
  #cachedNode: number;
  /** The same for limits up to 4 GiB. */
  #cached32Node: number;
  /** A size, in pages, known not to fit below 4 GiB. */
  #full32Pages: number;

  constructor(options: IovaTreeOptions) {
    assert(options.startPfn >= 1, "address 0 is never handed out: the first page is at least 1");
    assert(options.granuleLg2 <= 32, "a granule is at most 4 GiB");
    this.#above32Pfn = 2 ** (32 - options.granuleLg2);
    this.#startPfn = options.startPfn;
    this.#lock = new SpinLock("iova tree", options.spinNodes);
    this.#anchor = this.#tree.insert(ANCHOR_PFN, ANCHOR_PFN);
    this.#cachedNode = this.#anchor;
    this.#cached32Node = this.#anchor;
    this.#full32Pages = this.#above32Pfn;
  }

  /** Taken ranges in ascending order, reserved ones and those in caches included: for tools. */
  *ranges(): IterableIterator<PfnRange> {
    const tree = this.#tree;
    for (let node = tree.lowest; node !== this.#anchor; node = tree.next(node)) {
      yield { firstPfn: tree.first[node], lastPfn: tree.last[node] };
    }
  }

  /** Number of taken ranges. */
  get rangeCount(): number {
    return this.#tree.count - 1;
  }

  /** Asserts the rules of tree and starting points. */
  check(): void {
    this.#tree.check();
    assert(this.#tree.find(ANCHOR_PFN) === this.#anchor, "the anchor is above everything");
    for (const node of [this.#cachedNode, this.#cached32Node]) {
      const found = this.#tree.find(this.#tree.first[node]);
      assert(found === node, "a search starts at a node of the tree");
    }
  }

  /** See `IovaAllocator.allocate`. */
  *allocate(cpu: Cpu, pages: number, limitPfn: number): Routine<number> {
    const beganNs = yield* this.#acquire(cpu);
    const pfn = this.#allocate(pages, limitPfn + 1);
    if (pfn !== NO_IOVA) this.counts.allocations++;
    yield* this.#release(cpu, beganNs);
    return pfn;
  }

  /** Frees the range that starts at `pfn`. */
  *free(cpu: Cpu, pfn: number): Routine {
    const beganNs = yield* this.#acquire(cpu);
    this.#free(pfn);
    yield* this.#release(cpu, beganNs);
  }

  /** Frees the ranges that start at the first `count` of `pfns` under one hold of the lock. */
  *freeMany(cpu: Cpu, pfns: Float64Array, count: number): Routine {
    const beganNs = yield* this.#acquire(cpu);
    for (let index = 0; index < count; index++) this.#free(pfns[index]);
    yield* this.#release(cpu, beganNs);
  }

  /** See `IovaAllocator.reserve`. */
  *reserve(cpu: Cpu, firstPfn: number, lastPfn: number): Routine {
    assert(firstPfn <= lastPfn, "a reserved range has a first page not above its last");
    assert(lastPfn < ANCHOR_PFN, `reserved pages are addresses: ${hex(lastPfn)}`);
    const beganNs = yield* this.#acquire(cpu);
    this.#reserve(firstPfn, lastPfn);
    yield* this.#release(cpu, beganNs);
  }

  /** Waits for the lock; returns when that began. */
  *#acquire(cpu: Cpu): Routine<number> {
    // Nothing that comes in between shall count.
    cpu.irqDisable();
    const beganNs = cpu.now();
    yield* this.#lock.acquire(cpu);
    // What tools have looked at since is nobody's time.
    this.#tree.takeVisited();
    return beganNs;
  }

  /** Charges for the nodes that were looked at, and lets go of the lock. */
  *#release(cpu: Cpu, beganNs: number): Routine {
    cpu.work(Work.treeNode, this.#tree.takeVisited());
    yield* this.#lock.release(cpu);
    this.counts.busyNs += cpu.now() - beganNs;
    cpu.irqEnable();
  }

  /** `limit` is exclusive. Keeps the kernel's order of decisions, for its addresses are compared. */
  #allocate(pages: number, limit: number): number {
    if (limit <= this.#above32Pfn && pages >= this.#full32Pages) return NO_IOVA;
    const tree = this.#tree;
    const alignPages = powerOfTwoAtLeast(pages);
    let node = limit <= this.#above32Pfn ? this.#cached32Node : this.#cachedNode;
    const retryPfn = tree.last[node];
    let low = this.#startPfn;
    for (;;) {
      let high = limit;
      let candidate: number;
      let above: number;
      do {
        high = Math.min(high, tree.first[node]);
        candidate = alignDown(high - pages, alignPages);
        above = node;
        node = tree.previous(node);
      } while (node !== NIL && candidate <= tree.last[node] && candidate >= low);
      // A candidate below zero is below `low` too: pages that do not fit need no other test.
      if (candidate >= low) return this.#take(candidate, candidate + pages - 1, above);
      if (low !== this.#startPfn || retryPfn >= limit) break;
      // The search began below free space: once more, from the limit down to where it began.
      low = retryPfn + 1;
      node = this.#firstAbove(limit);
    }
    this.#full32Pages = pages;
    return NO_IOVA;
  }

  /** Inserts a range whose next higher neighbour is `above`, and starts the next search there. */
  #take(first: number, last: number, above: number): number {
    const node = this.#tree.insert(first, last, above);
    if (last < this.#above32Pfn) this.#cached32Node = node;
    else this.#cachedNode = node;
    return first;
  }

  /**
   * The lowest node that starts at or above `limit`; for a limit beyond 4 GiB the anchor, from
   * which the walk is short because allocation goes top-down.
   */
  #firstAbove(limit: number): number {
    if (limit > this.#above32Pfn) return this.#anchor;
    const tree = this.#tree;
    let best = this.#anchor;
    for (let node = tree.root; node !== NIL; ) {
      if (tree.first[node] >= limit) {
        best = node;
        node = tree.left(node);
      } else node = tree.right(node);
    }
    return best;
  }

  /** Find, update of the starting points and erasure are one step under the lock. */
  #free(pfn: number): void {
    this.counts.frees++;
    const tree = this.#tree;
    const node = tree.find(pfn);
    const isTaken = node !== NIL && tree.first[node] === pfn;
    if (!isTaken) assert(false, `page ${hex(pfn)} starts a taken range`);
    const cached32First = tree.first[this.#cached32Node];
    if (
      node === this.#cached32Node ||
      (tree.last[node] < this.#above32Pfn && pfn >= cached32First)
    ) {
      this.#cached32Node = tree.next(node);
    }
    if (pfn < this.#above32Pfn) this.#full32Pages = this.#above32Pfn;
    if (pfn >= tree.first[this.#cachedNode]) this.#cachedNode = tree.next(node);
    tree.erase(node);
  }

  #reserve(firstPfn: number, lastPfn: number): void {
    const tree = this.#tree;
    let first = firstPfn;
    for (let node = tree.lowest; node !== this.#anchor; node = tree.next(node)) {
      if (tree.last[node] < first) continue;
      if (tree.first[node] > lastPfn) break;
      if (tree.first[node] > first) tree.first[node] = first;
      if (tree.last[node] >= lastPfn) return;
      first = tree.last[node] + 1;
    }
    tree.insert(first, lastPfn);
  }
}

/** Smallest power of two at or above `count`, which is at least 1. */
export function powerOfTwoAtLeast(count: number): number {
  assert(count >= 1, "a range has at least one page");
  // Ranges beyond 2^31 pages (8 TiB) are rare enough for the slow way.
  if (count > 2 ** 31) return 2 ** Math.ceil(Math.log2(count));
  return 2 ** (32 - Math.clz32(count - 1));
}

function alignDown(value: number, align: number): number {
  return Math.floor(value / align) * align;
}
