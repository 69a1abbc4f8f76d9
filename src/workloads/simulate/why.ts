/**
 * Where the CPUs' time goes: sums of virtual time by what a CPU was doing (a job, an interrupt),
 * in which call of the DMA API, for which purpose, and at what: as folded stacks.
 *
 * `WhyAccounts` owns the sums; a `WatchedCpu` (watched-cpu.ts) per CPU feeds them.
 */

import type { WorkName } from "#machine";

/** What people ask about; the second part of a leaf is what exactly. */
export type Purpose =
  | "I/O path"
  | "interrupt entry"
  | "DMA API"
  | "IOVA allocator"
  | "page table"
  | "queue insertion"
  | "waiting for SYNC"
  | "flush queue"
  | "copying"
  | "page allocation"
  | "other";

/** Of computation, by its name. */
export const WORK_PURPOSES: Readonly<Record<WorkName, Purpose>> = {
  dmaCall: "DMA API",
  treeNode: "IOVA allocator",
  magazine: "IOVA allocator",
  pageTableLevel: "page table",
  pageTableEntry: "page table",
  command: "queue insertion",
  flushQueueEntry: "flush queue",
  pageAllocation: "page allocation",
  copyKilobyte: "copying",
  bitmapWord: "IOVA allocator",
  interrupt: "interrupt entry",
  scatterSegment: "DMA API",
};

export interface WhyLine {
  readonly name: string;
  /** Accesses that had to fetch the line, and what they took. */
  readonly transfers: number;
  readonly ns: number;
}

/** Plain data, to be sent by a worker. */
export interface WhyReport {
  /** Nanoseconds by folded stack: `context;call;purpose;what`. */
  readonly stacks: Readonly<Record<string, number>>;
  /** Nanoseconds by purpose. */
  readonly purposes: Readonly<Record<string, number>>;
  /** Lines by the time that fetching them took, most first. */
  readonly lines: readonly WhyLine[];
  /** Busy time of all CPUs in the window. */
  readonly totalNs: number;
}

interface LineSum {
  transfers: number;
  ns: number;
}

export class WhyAccounts {
  #startNs = Number.POSITIVE_INFINITY;
  #endNs = Number.POSITIVE_INFINITY;
  readonly #stacks = new Map<string, Map<string, number>>();
  readonly #purposes = new Map<Purpose, number>();
  readonly #lines = new Map<string, LineSum>();
  #totalNs = 0;

  /** Only what happens in this stretch of time counts. */
  open(startNs: number, endNs: number): void {
    this.#startNs = startNs;
    this.#endNs = endNs;
  }

  add(atNs: number, path: string, purpose: Purpose, what: string, ns: number): void {
    if (ns <= 0 || atNs < this.#startNs || atNs >= this.#endNs) return;
    let leaves = this.#stacks.get(path);
    if (leaves === undefined) {
      leaves = new Map();
      this.#stacks.set(path, leaves);
    }
    const leaf = `${purpose};${what}`;
    leaves.set(leaf, (leaves.get(leaf) ?? 0) + ns);
    this.#purposes.set(purpose, (this.#purposes.get(purpose) ?? 0) + ns);
    this.#totalNs += ns;
  }

  addTransfer(atNs: number, line: string, ns: number): void {
    if (atNs < this.#startNs || atNs >= this.#endNs) return;
    let sum = this.#lines.get(line);
    if (sum === undefined) {
      sum = { transfers: 0, ns: 0 };
      this.#lines.set(line, sum);
    }
    sum.transfers++;
    sum.ns += ns;
  }

  report(): WhyReport {
    const stacks: Record<string, number> = {};
    for (const [path, leaves] of this.#stacks) {
      for (const [leaf, ns] of leaves) stacks[`${path};${leaf}`] = ns;
    }
    const purposes = Object.fromEntries([...this.#purposes].sort((a, b) => b[1] - a[1]));
    const lines = [...this.#lines]
      .map(([name, sum]) => ({ name, ...sum }))
      .sort((a, b) => b.ns - a.ns);
    return { stacks, purposes, lines, totalNs: this.#totalNs };
  }
}

/** Purposes of shared variables, by how their names begin. */
const PURPOSES: readonly (readonly [string, Purpose])[] = [
  ["cmdq", "queue insertion"],
  ["smmu options for wait", "waiting for SYNC"],
  ["smmu", "queue insertion"],
  ["invalidation array", "queue insertion"],
  ["rcu", "queue insertion"],
  ["iova", "IOVA allocator"],
  ["flush", "flush queue"],
  ["lazy mode", "flush queue"],
  ["nvme", "I/O path"],
  ["nic", "I/O path"],
];

/** What a cell is for; the queue nodes of locks are for the lock that was asked for last. */
export function purposeOfName(name: string): Purpose {
  const found = PURPOSES.find(([begin]) => name.startsWith(begin));
  return found === undefined ? "other" : found[1];
}

/** Names that differ in numbers only are one: lines of CPUs, bins, queues. */
export function withoutNumbers(name: string): string {
  return name.replaceAll(/\d+/g, "").replaceAll(/ {2,}/g, " ").trim();
}
