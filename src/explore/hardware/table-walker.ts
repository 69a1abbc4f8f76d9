/**
 * The part of an SMMU that walks a two-level page table, small enough to be explored: it reads
 * the top entry in one step and the leaf in another, and remembers the table in between (a walk
 * cache), and what it found (a TLB). An invalidation takes both away in one step: a walk that is
 * under way then ends without a result.
 *
 * `WatchedFrames` is where the tables come from: it knows which of them are in use.
 */

import {
  type Agent,
  type Cell,
  type Cpu,
  type ExploredAgent,
  type ExploredMachine,
  FrameAllocator,
  type Iova,
  loneCell,
  type PhysicalAddress,
  type Routine,
} from "#machine";
import type { TableFormat } from "#pagetable";
import { check } from "../harness.js";

const ENTRY_BYTES = 8;
/** `EntryKind` of an entry that points to a table, and of a leaf. */
const TABLE = 1;
const LEAF = 2;
const FRAMES_BASE = 0x4000_0000;
const FRAMES_BYTES = 0x10_0000;

/** Frames of tables. All that is plain in it is ordered by one cell. */
export class WatchedFrames extends FrameAllocator {
  readonly #machine: ExploredMachine;
  readonly #order = loneCell("frames");
  readonly #uses = new Map<PhysicalAddress, Cell>();
  #useCount = 0;

  constructor(machine: ExploredMachine) {
    super(FRAMES_BASE, FRAMES_BASE + FRAMES_BYTES - 1);
    this.#machine = machine;
  }

  /** Frames handed out so far. */
  get allocationCount(): number {
    return this.#useCount;
  }

  /** Which of all uses of frames this one is for now; 0 while it is free. */
  use(address: PhysicalAddress): number {
    return this.#machine.observe(this.#useOf(address));
  }

  override *allocate(agent: Agent, sizeBytes: number): Routine<PhysicalAddress> {
    agent.poke(this.#order, 0);
    const address = yield* super.allocate(agent, sizeBytes);
    agent.poke(this.#useOf(address), ++this.#useCount);
    return address;
  }

  override free(agent: Agent, address: PhysicalAddress, sizeBytes: number): void {
    agent.poke(this.#order, 0);
    check(this.use(address) !== 0, "a table is freed once");
    agent.poke(this.#useOf(address), 0);
    super.free(agent, address, sizeBytes);
  }

  #useOf(address: PhysicalAddress): Cell {
    let cell = this.#uses.get(address);
    if (cell === undefined) {
      cell = loneCell(`use of frame 0x${address.toString(16)}`);
      this.#uses.set(address, cell);
    }
    return cell;
  }
}

/** What a walk found: an address, nothing mapped, or no answer as it was invalidated under way. */
export type Found = PhysicalAddress | "fault" | "invalidated";

export class TableWalker {
  /** 1 while the walk cache has a table; while the TLB has a translation. */
  readonly walkCache = loneCell("walk cache");
  readonly tlb = loneCell("TLB");
  readonly #machine: ExploredMachine;
  readonly #frames: WatchedFrames;
  readonly #queue = loneCell("invalidation queue");

  constructor(machine: ExploredMachine, frames: WatchedFrames) {
    this.#machine = machine;
    this.#frames = frames;
  }

  /** Invalidates tables and leaves, and waits: a command is an atomic operation on its queue. */
  *invalidate(cpu: Cpu): Routine {
    yield* cpu.fetchAdd(this.#queue, 1);
    cpu.poke(this.walkCache, 0);
    cpu.poke(this.tlb, 0);
  }

  /** One walk. Its last step's event is still under way when it returns. */
  *walk(
    agent: ExploredAgent,
    format: TableFormat,
    root: PhysicalAddress,
    iova: Iova,
  ): Routine<Found> {
    const machine = this.#machine;
    const [top, last] = [format.topLevel, format.lastLevel];
    const topIndex = Math.floor(iova / format.spanBytes[top]);
    const topLo = yield* agent.read64(root + topIndex * ENTRY_BYTES);
    const kind = format.entryKind(topLo, top);
    if (kind === LEAF) {
      agent.poke(this.tlb, 1);
      const offset = iova - topIndex * format.spanBytes[top];
      return format.leafAddress(topLo, agent.hi, top) + offset;
    }
    if (kind !== TABLE) return "fault";
    const table = format.tableAddress(topLo, agent.hi);
    const use = this.#frames.use(table);
    agent.poke(this.walkCache, 1);
    const index = Math.floor(iova / format.spanBytes[last]) % format.tableEntries;
    const lo = yield* agent.read64(table + index * ENTRY_BYTES);
    if (machine.observe(this.walkCache) === 0) return "invalidated";
    check(this.#frames.use(table) === use, "no table is freed while a walker has it");
    if (format.entryKind(lo, last) !== LEAF) return "fault";
    agent.poke(this.tlb, 1);
    return format.leafAddress(lo, agent.hi, last);
  }
}
