/**
 * An LPAE table whose duties are watched: which invalidations it asks for, which pages it
 * allocates and frees, and in which order.
 */

import {
  type Agent,
  assert,
  type Cpu,
  FrameAllocator,
  type Iova,
  type Machine,
  type PhysicalAddress,
  type PhysicalMemory,
  type Routine,
} from "#machine";
import { ENTRY_BYTES, ENTRY_TABLE, type TableFormat } from "../format.js";
import { createLpaeTable, type LpaeOptions, type LpaeTable } from "../lpae.js";
import type { TlbHooks, UnmapGather } from "../tlb.js";

/** A range of one page size, as `IotlbGather` keeps it. */
export class TestGather implements UnmapGather {
  readonly queued: boolean;
  readonly freedTables: PhysicalAddress[] = [];
  /** What would have been invalidated: every range that a sync closed, and the open one. */
  readonly ranges: { iova: Iova; sizeBytes: number; readonly pageBytes: number }[] = [];
  #open = false;

  constructor(queued: boolean) {
    this.queued = queued;
  }

  tryAdd(iova: Iova, sizeBytes: number, pageBytes: number): boolean {
    const range = this.ranges[this.ranges.length - 1];
    if (!this.#open) {
      this.ranges.push({ iova, sizeBytes, pageBytes });
      this.#open = true;
      return true;
    }
    const end = range.iova + range.sizeBytes;
    if (range.pageBytes !== pageBytes || iova > end || iova + sizeBytes < range.iova) return false;
    range.sizeBytes = Math.max(end, iova + sizeBytes) - Math.min(range.iova, iova);
    range.iova = Math.min(range.iova, iova);
    return true;
  }

  sync(): void {
    this.#open = false;
  }
}

export type TableEvent =
  | {
      readonly kind: "flush walk";
      readonly iova: Iova;
      readonly sizeBytes: number;
      /** The tables that a walker could reach when the flush was asked for. */
      readonly reachable: ReadonlySet<PhysicalAddress>;
    }
  | { readonly kind: "allocate" | "free"; readonly address: PhysicalAddress };

/** Frames that log, and that may let other CPUs run in the middle of an allocation. */
class WatchedFrames extends FrameAllocator {
  readonly events: TableEvent[];
  readonly #delayNs: number;

  constructor(events: TableEvent[], sizeBytes: number, delayNs: number) {
    super(FRAMES_BASE, FRAMES_BASE + sizeBytes - 1);
    this.events = events;
    this.#delayNs = delayNs;
  }

  override *allocate(agent: Agent, sizeBytes: number): Routine<PhysicalAddress> {
    const address = yield* super.allocate(agent, sizeBytes);
    this.events.push({ kind: "allocate", address });
    if (this.#delayNs > 0) yield* agent.delay(this.#delayNs);
    return address;
  }

  override free(agent: Agent, address: PhysicalAddress, sizeBytes: number): void {
    this.events.push({ kind: "free", address });
    super.free(agent, address, sizeBytes);
  }
}

/** Above the addresses that tests map. */
const FRAMES_BASE = 2 ** 45;

export interface WatchedTable {
  readonly table: LpaeTable<TestGather>;
  readonly frames: FrameAllocator;
  readonly events: TableEvent[];
}

export interface WatchedOptions extends Partial<LpaeOptions<TestGather>> {
  readonly framesBytes?: number;
  readonly allocationDelayNs?: number;
}

export function watchedTable(machine: Machine, options: WatchedOptions = {}): WatchedTable {
  const events: TableEvent[] = [];
  const { framesBytes = 2 ** 30, allocationDelayNs = 0 } = options;
  const frames = new WatchedFrames(events, framesBytes, allocationDelayNs);
  let table: LpaeTable<TestGather> | undefined;
  const tlb: TlbHooks<TestGather> = {
    *flushWalk(_cpu: Cpu, iova: Iova, sizeBytes: number): Routine {
      assert(table !== undefined, "a table is made before it is used");
      const { format, rootAddress } = table;
      const reachable = new Set(tablePages(machine.memory, format, rootAddress).keys());
      events.push({ kind: "flush walk", iova, sizeBytes, reachable });
    },
    *addPage(_cpu: Cpu, gather: TestGather, iova: Iova, pageBytes: number): Routine {
      gather.sync();
      gather.tryAdd(iova, pageBytes, pageBytes);
    },
  };
  table = machine.call(0, (cpu) =>
    createLpaeTable(cpu, {
      frames,
      tlb,
      iasBits: 48,
      oasBits: 48,
      coherentWalk: true,
      unmapPartOfBlock: "refuse",
      ...options,
    }),
  );
  return { table, frames, events };
}

export interface TablePage {
  readonly level: number;
  readonly iova: Iova;
  readonly sizeBytes: number;
  /** High half of the entry that points to it. */
  readonly entryHi: number;
}

/** Every table below the top that a walker can reach, by address. */
export function tablePages(
  memory: PhysicalMemory,
  format: TableFormat,
  rootAddress: PhysicalAddress,
): Map<PhysicalAddress, TablePage> {
  const pages = new Map<PhysicalAddress, TablePage>();
  const visit = (table: PhysicalAddress, level: number, base: Iova): void => {
    if (level === format.lastLevel) return;
    const entries = level === format.topLevel ? format.topEntries : format.tableEntries;
    const sizeBytes = format.spanBytes[level];
    for (let index = 0; index < entries; index++) {
      const lo = memory.read64(table + index * ENTRY_BYTES);
      if (format.entryKind(lo, level) !== ENTRY_TABLE) continue;
      const entryHi = memory.hi;
      const address = format.tableAddress(lo, entryHi);
      const iova = base + index * sizeBytes;
      pages.set(address, { level: level + 1, iova, sizeBytes, entryHi });
      visit(address, level + 1, iova);
    }
  };
  visit(rootAddress, format.topLevel, 0);
  return pages;
}
