/**
 * An address translation cache: what an endpoint keeps of the answers to its translation
 * requests (PCI Express Base Specification, 10.1.1). Fully associative, with true LRU.
 *
 * Entries are found by space (PASID and privilege), size and aligned address. Looking for one
 * costs a look into a map for each size that the space has had, and allocates nothing.
 */

import { NO_PASID } from "#hardware/bus";
import { assert, type Iova, type Pasid, type PhysicalAddress } from "#machine";

export interface AtcEntry {
  readonly pasid: Pasid;
  readonly isPrivileged: boolean;
  readonly first: Iova;
  /** Inclusive. */
  readonly last: Iova;
  readonly sizeLg2: number;
  /** Translation of `first`. */
  readonly target: PhysicalAddress;
  /** Bits of `AtsGrant`. */
  readonly granted: number;
}

/** The entries of one space and size, by their number: address divided by size. */
interface SizeClass {
  readonly sizeLg2: number;
  readonly entries: Map<number, AtcEntry>;
}

export class Atc {
  readonly capacity: number;
  readonly #spaces = new Map<number, SizeClass[]>();
  /** Least recently used first. */
  readonly #byUse = new Set<AtcEntry>();

  constructor(capacity: number) {
    assert(capacity > 0, "an ATC holds at least one translation");
    this.capacity = capacity;
  }

  get size(): number {
    return this.#byUse.size;
  }

  /** The entry that covers the address; that makes it the most recently used. */
  find(pasid: Pasid, isPrivileged: boolean, iova: Iova): AtcEntry | undefined {
    const classes = this.#spaces.get(spaceOf(pasid, isPrivileged));
    if (classes === undefined) return undefined;
    for (const { sizeLg2, entries } of classes) {
      const entry = entries.get(Math.floor(iova / 2 ** sizeLg2));
      if (entry === undefined) continue;
      this.#byUse.delete(entry);
      this.#byUse.add(entry);
      return entry;
    }
    return undefined;
  }

  /**
   * Keeps a translation of the aligned 2^`sizeLg2` bytes around `iova` to those around
   * `address`, instead of all that it overlaps; what was used longest ago makes room.
   */
  insert(
    pasid: Pasid,
    isPrivileged: boolean,
    iova: Iova,
    sizeLg2: number,
    address: PhysicalAddress,
    granted: number,
  ): void {
    const sizeBytes = 2 ** sizeLg2;
    const first = Math.floor(iova / sizeBytes) * sizeBytes;
    const target = Math.floor(address / sizeBytes) * sizeBytes;
    const last = first + sizeBytes - 1;
    for (const entry of this.#byUse) {
      if (entry.pasid !== pasid || entry.isPrivileged !== isPrivileged) continue;
      if (entry.first <= last && entry.last >= first) this.#remove(entry);
    }
    const entry = { pasid, isPrivileged, first, last, sizeLg2, target, granted };
    for (const oldest of this.#byUse) {
      if (this.#byUse.size < this.capacity) break;
      this.#remove(oldest);
    }
    this.#classOf(entry).entries.set(first / sizeBytes, entry);
    this.#byUse.add(entry);
  }

  /** Forgets what overlaps first..last: of one PASID, or with `NO_PASID` of all requests. */
  invalidate(pasid: Pasid, first: Iova, last: Iova): void {
    for (const entry of this.#byUse) {
      if (pasid !== NO_PASID && entry.pasid !== pasid) continue;
      if (entry.first <= last && entry.last >= first) this.#remove(entry);
    }
  }

  clear(): void {
    this.#spaces.clear();
    this.#byUse.clear();
  }

  #remove(entry: AtcEntry): void {
    this.#byUse.delete(entry);
    this.#classOf(entry).entries.delete(entry.first / 2 ** entry.sizeLg2);
  }

  #classOf({ pasid, isPrivileged, sizeLg2 }: AtcEntry): SizeClass {
    const space = spaceOf(pasid, isPrivileged);
    let classes = this.#spaces.get(space);
    if (classes === undefined) this.#spaces.set(space, (classes = []));
    let found = classes.find((one) => one.sizeLg2 === sizeLg2);
    if (found === undefined) classes.push((found = { sizeLg2, entries: new Map() }));
    return found;
  }
}

/** One number for what may not share translations; PASIDs have 20 bits, none is -1. */
function spaceOf(pasid: Pasid, isPrivileged: boolean): number {
  return (pasid + 1) * 2 + Number(isPrivileged);
}
