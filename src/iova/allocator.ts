/**
 * What every IOVA allocator offers. Addresses are page frame numbers in units of the
 * domain's granule, its smallest page size.
 *
 * An allocator belongs to one domain; whoever set the domain up owns it.
 */

import type { Cpu, Routine } from "#machine";

/** What `allocate` returns when nothing fits: address 0 is never handed out. */
export const NO_IOVA = 0;

/** Bits of the `flags` of `IovaAllocator.allocate`. */
export const AllocateFlag = {
  /** When nothing fits, give what caches hold back to the common space and try once more. */
  flushCaches: 1,
} as const;

/** What happened so far in the common space behind an allocator's caches. */
export interface CommonSpaceCounts {
  /** Ranges taken from it, and given back to it. */
  allocations: number;
  frees: number;
  /** CPU time that went there and to the depot: waiting for their locks, and holding them. */
  busyNs: number;
}

export interface IovaAllocator {
  /** Bytes of one page frame number; a power of two. */
  readonly granuleBytes: number;
  /** Largest size, in pages, that is served without going to the common space. */
  readonly cachedPagesMax: number;
  /** Of allocators that have a common space under a lock. */
  readonly common?: Readonly<CommonSpaceCounts>;
  /**
   * First page of `pages` free ones at or below `limitPfn` (inclusive), aligned to the
   * next power of two of `pages`; `NO_IOVA` when there are none. `flags`: `AllocateFlag`.
   */
  allocate(cpu: Cpu, pages: number, limitPfn: number, flags: number): Routine<number>;
  /** Gives a range back whole; `pages` is what it was allocated with. */
  free(cpu: Cpu, pfn: number, pages: number): Routine;
  /** Keeps [firstPfn, lastPfn] from ever being handed out; ranges reserved before may overlap. */
  reserve(cpu: Cpu, firstPfn: number, lastPfn: number): Routine;
  /** Ends deferred work on all CPUs. Nothing may be allocated or freed afterwards. */
  destroy(cpu: Cpu): Routine;
}
