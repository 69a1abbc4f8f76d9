/**
 * The stores of one CPU that others do not see yet, and in which order they may become visible.
 *
 * `tso`: first in, first out (x86-TSO: Owens, Sarkar, Sewell, "A Better x86 Memory Model", 2009).
 * `weak`: stores to different locations pass each other unless a write fence stands between
 * them or the later one is a release (SPARC's PSO with STBAR, plus releases).
 *
 * Under `weak` an atomic may pass stores, as a store would; x86's never do.
 *
 * A store that became visible stays in the list, marked, until a fence empties it: events that
 * come later may have to be ordered behind it.
 */

import type { Cell } from "../cell.js";
import type { Footprint } from "./footprint.js";

export type MemoryModel = "sc" | "tso" | "weak";

/** What a buffered store does when it becomes visible. */
export const Target = { cell: 0, memory: 1, register: 2 } as const;
export type TargetCode = (typeof Target)[keyof typeof Target];

/** In place of a location: any register. */
export const ANY_REGISTER = -1;

/** Halves of a granule that a store covers. */
export const Half = { lo: 1, hi: 2, both: 3 } as const;

export class BufferedStore {
  target: TargetCode = Target.cell;
  cell: Cell | undefined;
  address = 0;
  sizeBytes = 0;
  location = -1;
  lo = 0;
  hi = 0;
  /** For memory: which halves of the granule. */
  halves: number = Half.both;
  /** Grows with each write fence. */
  group = 0;
  isRelease = false;
  /** Which of the CPU's draining processes makes it visible. */
  slot = 0;
  /** Event that issued it, and that made it visible; -1 before the exploration or not yet. */
  issueEvent = -1;
  drainEvent = -1;
  isVisible = false;
}

export class StoreBuffer {
  readonly #isFifo: boolean;
  readonly #stores: BufferedStore[] = [];
  #count = 0;
  #waiting = 0;
  #group = 0;
  /** Locations by slot, in the order of the first store since the last fence. */
  readonly #slotLocations: number[] = [];
  slotCount = 0;

  constructor(model: MemoryModel) {
    this.#isFifo = model !== "weak";
  }

  /** Whether atomics can be less than full barriers. */
  get hasRelaxedAtomics(): boolean {
    return !this.#isFifo;
  }

  get isEmpty(): boolean {
    return this.#waiting === 0;
  }

  /** Forgets everything, when a fence has seen all of it visible or a new execution begins. */
  clear(): void {
    this.#count = 0;
    this.#waiting = 0;
    this.#group = 0;
    this.slotCount = 0;
  }

  /** A store at the end of the buffer, to be filled in by the caller. */
  add(location: number, isRelease: boolean, issueEvent: number): BufferedStore {
    const store = (this.#stores[this.#count] ??= new BufferedStore());
    this.#count++;
    this.#waiting++;
    store.location = location;
    store.isRelease = isRelease;
    store.group = this.#group;
    store.slot = this.#slotOf(location);
    store.issueEvent = issueEvent;
    store.drainEvent = -1;
    store.isVisible = false;
    return store;
  }

  /** Later stores stay behind those that are in the buffer now. */
  writeFence(): void {
    this.#group++;
  }

  /** The newest store to a cell that only this CPU sees; undefined when memory has the value. */
  newestToCell(cell: Cell): BufferedStore | undefined {
    if (this.#waiting === 0) return undefined;
    for (let index = this.#count - 1; index >= 0; index--) {
      const store = this.#stores[index];
      if (!store.isVisible && store.target === Target.cell && store.cell === cell) return store;
    }
    return undefined;
  }

  /** The newest hidden store to a half of a granule. */
  newestToMemory(location: number, half: number): BufferedStore | undefined {
    if (this.#waiting === 0) return undefined;
    for (let index = this.#count - 1; index >= 0; index--) {
      const store = this.#stores[index];
      if (store.isVisible || store.target !== Target.memory) continue;
      if (store.location === location && (store.halves & half) !== 0) return store;
    }
    return undefined;
  }

  /** Whether register writes wait in the buffer. */
  hasRegisterWrites(): boolean {
    if (this.#waiting === 0) return false;
    for (let index = 0; index < this.#count; index++) {
      const store = this.#stores[index];
      if (!store.isVisible && store.target === Target.register) return true;
    }
    return false;
  }

  /**
   * For the oldest hidden store to `location` (or `ANY_REGISTER`): the slot of the store that has to
   * become visible next for that one to do so; -1 when there is none.
   */
  slotToward(location: number): number {
    if (this.#waiting === 0) return -1;
    for (let index = 0; index < this.#count; index++) {
      const { isVisible, target, location: own } = this.#stores[index];
      if (isVisible) continue;
      if (own === location || (location === ANY_REGISTER && target === Target.register)) {
        return this.#slotBefore(index);
      }
    }
    return -1;
  }

  /** From store to store that the one before stays behind, down to one that does not. */
  #slotBefore(index: number): number {
    let first = this.#stores[index];
    for (let before = index - 1; before >= 0; before--) {
      const earlier = this.#stores[before];
      if (!earlier.isVisible && this.#ordered(earlier, first)) first = earlier;
    }
    return first.slot;
  }

  /** The store that the slot's process may make visible now. */
  ready(slot: number): BufferedStore | undefined {
    if (this.#waiting === 0) return undefined;
    for (let index = 0; index < this.#count; index++) {
      const store = this.#stores[index];
      if (store.isVisible || store.slot !== slot) continue;
      return this.#mayDrain(index) ? store : undefined;
    }
    return undefined;
  }

  /** Marks a store as visible; the event follows those that had to become visible before. */
  drained(store: BufferedStore, event: number, footprint: Footprint): void {
    const index = this.#stores.indexOf(store);
    for (let before = 0; before < index; before++) {
      const earlier = this.#stores[before];
      if (this.#ordered(earlier, store)) footprint.join(earlier.drainEvent);
    }
    footprint.join(store.issueEvent);
    store.isVisible = true;
    store.drainEvent = event;
    this.#waiting--;
  }

  /** An event of its owner found it empty, and follows all that was in it. */
  leave(footprint: Footprint): void {
    this.joinAll(footprint);
    this.clear();
  }

  /** The events that an empty buffer's owner has waited for. */
  joinAll(footprint: Footprint): void {
    for (let index = 0; index < this.#count; index++) {
      footprint.join(this.#stores[index].drainEvent);
    }
  }

  /** Whether a relaxed atomic may act on a location: no store that it stays behind is hidden. */
  mayPass(location: number): boolean {
    if (this.#waiting === 0) return true;
    for (let index = 0; index < this.#count; index++) {
      const store = this.#stores[index];
      if (!store.isVisible && this.#precedesAtomic(store, location)) return false;
    }
    return true;
  }

  /** The events that a relaxed atomic on a location has waited for. */
  joinPassed(location: number, footprint: Footprint): void {
    for (let index = 0; index < this.#count; index++) {
      const store = this.#stores[index];
      if (this.#precedesAtomic(store, location)) footprint.join(store.drainEvent);
    }
  }

  /** As `joinAll`, for who has waited for the writes of registers only. */
  joinRegisterWrites(footprint: Footprint): void {
    for (let index = 0; index < this.#count; index++) {
      const { target, drainEvent } = this.#stores[index];
      if (target === Target.register) footprint.join(drainEvent);
    }
  }

  #mayDrain(index: number): boolean {
    const store = this.#stores[index];
    for (let before = 0; before < index; before++) {
      const earlier = this.#stores[before];
      if (!earlier.isVisible && this.#ordered(earlier, store)) return false;
    }
    return true;
  }

  #precedesAtomic(store: BufferedStore, location: number): boolean {
    return store.group < this.#group || store.location === location;
  }

  #ordered(earlier: BufferedStore, later: BufferedStore): boolean {
    if (this.#isFifo || later.isRelease) return true;
    return earlier.group < later.group || earlier.location === later.location;
  }

  #slotOf(location: number): number {
    if (this.#isFifo) {
      this.slotCount = 1;
      return 0;
    }
    for (let slot = 0; slot < this.slotCount; slot++) {
      if (this.#slotLocations[slot] === location) return slot;
    }
    this.#slotLocations[this.slotCount] = location;
    return this.slotCount++;
  }
}
