/**
 * Names for computation that touches no shared variable.
 *
 * A routine charges `cpu.work(Work.x, count)` for steps that it took on data that
 * is private to it or to the holder of a lock; a cost profile says what one step
 * costs. The names are what `--why` reports, so they name ideas of the stack and
 * not instructions.
 */

export const Work = {
  /** Entry of a DMA API call: argument checks, choice of the path. */
  dmaCall: 0,
  /** One node visited in a balanced tree. */
  treeNode: 1,
  /** Push to or pop from a per-CPU magazine. */
  magazine: 2,
  /** One level of a page table descended, or one entry computed. */
  pageTableLevel: 3,
  /** One leaf entry encoded or cleared. */
  pageTableEntry: 4,
  /** One hardware command built. */
  command: 5,
  /** One flush queue entry written or released. */
  flushQueueEntry: 6,
  /** One page of memory allocated or freed. */
  pageAllocation: 7,
  /** One kilobyte cleared or copied by the CPU. */
  copyKilobyte: 8,
  /** One word of a bitmap scanned. */
  bitmapWord: 9,
  /** Entry and exit of an interrupt or timer handler. */
  interrupt: 10,
  /** One segment of a scatter list handled. */
  scatterSegment: 11,
} as const;

export type WorkName = keyof typeof Work;
export type WorkCode = (typeof Work)[WorkName];
export const WORK_NAMES = Object.keys(Work) as readonly WorkName[];
