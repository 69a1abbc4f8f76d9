/**
 * An allocator that hands out the addresses that the captured kernel handed out, so that a
 * replay can be compared with the captured machine command for command: which blocks and
 * tables come and go in the page table depends on the addresses.
 *
 * The replay says which address comes next on a CPU, right before it maps, and performs all
 * operations in the captured order. An address may still wait for a flush (lazy mode) that
 * the captured kernel made earlier; then the CPU waits for it.
 */

import type { IovaAllocator } from "#iova";
import { assert, type Cpu, loneCell, type Routine } from "#machine";

/** Kernels hand out addresses from 4 GiB, or from the end of the input range, downwards. */
const SPARE_BASE = 2 ** 40;

export class CapturedIovas implements IovaAllocator {
  readonly granuleBytes: number;
  readonly cachedPagesMax = Number.POSITIVE_INFINITY;
  /** By CPU; taken by the next `allocate` there. */
  readonly #nextPfn: number[] = [];
  /** Pages of the ranges in use, by first page. */
  readonly #live = new Map<number, number>();
  readonly #frees = loneCell("captured IOVAs freed");

  #sparePfn: number;

  constructor(granuleBytes: number) {
    this.granuleBytes = granuleBytes;
    this.#sparePfn = SPARE_BASE / granuleBytes;
  }

  /**
   * The next map on this CPU gets the range that contains `iova`; without one, which says that
   * the captured device was not behind the IOMMU, an address far from all others.
   */
  expect(cpuId: number, iova: number | undefined, sizeBytes: number): void {
    if (iova === undefined) {
      this.#nextPfn[cpuId] = this.#sparePfn;
      this.#sparePfn += Math.ceil(sizeBytes / this.granuleBytes) + 1;
    } else this.#nextPfn[cpuId] = Math.floor(iova / this.granuleBytes);
  }

  *allocate(cpu: Cpu, pages: number): Routine<number> {
    const pfn = this.#nextPfn[cpu.id];
    assert(pfn !== undefined, `the address of the map on cpu${cpu.id} was said before`);
    while (this.#isTaken(pfn, pages)) {
      const frees = this.#frees.value;
      yield* cpu.idleUntil(this.#frees, (now) => now !== frees);
    }
    this.#live.set(pfn, pages);
    return pfn;
  }

  // The interface is made of routines; these never wait.

  *free(cpu: Cpu, pfn: number): Routine {
    this.#live.delete(pfn);
    cpu.poke(this.#frees, this.#frees.value + 1);
  }

  /** The captured kernel kept its reserved ranges out of the addresses already. */
  *reserve(): Routine {}

  *destroy(): Routine {}

  #isTaken(pfn: number, pages: number): boolean {
    if (this.#live.has(pfn)) return true;
    for (const [livePfn, livePages] of this.#live) {
      if (livePfn < pfn + pages && pfn < livePfn + livePages) return true;
    }
    return false;
  }
}
