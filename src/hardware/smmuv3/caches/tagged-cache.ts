/**
 * A set-associative cache of translations, with true LRU replacement within a set.
 *
 * An entry maps one naturally aligned block of 2^sizeLg2 input bytes, for one ASID (or all)
 * of one VMID, to a target address with attributes. The IOTLB keeps leaves in one, the walk
 * cache pointers to tables in another. An entry may be a fragment of a larger leaf, because
 * stage 2 has smaller ones; what invalidates the leaf takes all its fragments (a guest knows
 * nothing of them). Entries live in typed arrays; nothing is allocated.
 */

import { POWERS_OF_TWO } from "#arch/lpae";
import { assert } from "#machine";

/** ASID of an entry that holds for all of them (nG = 0), or of a request that means any. */
export const ANY_ASID = -1;
/** Spreads the address spaces over the sets; odd, so that it is a bijection of the index. */
const ASID_SPREAD = 0x9e3779b1;

export class TaggedCache {
  readonly #sets: number;
  readonly #ways: number;
  /** log2 of the block, 0 where the way is empty. */
  readonly #sizeLg2: Uint8Array;
  /** Input address divided by the block size; negative in the upper half. */
  readonly #block: Float64Array;
  readonly #asid: Int32Array;
  readonly #vmid: Int32Array;
  readonly #granuleLg2: Uint8Array;
  /** log2 of the leaf that the entry is made from; the block's own size unless a fragment. */
  readonly #leafLg2: Uint8Array;
  readonly #usedAt: Float64Array;
  readonly #target: Float64Array;
  readonly #attributes: Uint8Array;
  /** Block sizes that ever occurred, ascending, and how many entries of each there are. */
  readonly #sizes: number[] = [];
  readonly #liveBySize = new Int32Array(64);
  #globals = 0;
  #fragments = 0;
  #clock = 0;

  constructor(entries: number, ways: number) {
    this.#sets = entries / ways;
    this.#ways = ways;
    assert(Number.isInteger(Math.log2(this.#sets)), "a cache has a power of two of sets");
    this.#sizeLg2 = new Uint8Array(entries);
    this.#block = new Float64Array(entries);
    this.#asid = new Int32Array(entries);
    this.#vmid = new Int32Array(entries);
    this.#granuleLg2 = new Uint8Array(entries);
    this.#leafLg2 = new Uint8Array(entries);
    this.#usedAt = new Float64Array(entries);
    this.#target = new Float64Array(entries);
    this.#attributes = new Uint8Array(entries);
  }

  get live(): number {
    return this.#liveBySize.reduce((sum, count) => sum + count, 0);
  }

  /** Index of the entry for `address`, smallest block first; -1 when there is none. */
  find(vmid: number, asid: number, address: number): number {
    const sizes = this.#sizes;
    for (let at = 0; at < sizes.length; at++) {
      const index = this.findSize(vmid, asid, address, sizes[at]);
      if (index >= 0) return index;
    }
    return -1;
  }

  /** As `find`, for blocks of one size. */
  findSize(vmid: number, asid: number, address: number, sizeLg2: number): number {
    if (this.#liveBySize[sizeLg2] === 0) return -1;
    const block = Math.floor(address / POWERS_OF_TWO[sizeLg2]);
    let index = this.#probe(vmid, asid, block, sizeLg2);
    if (index < 0 && this.#globals > 0) index = this.#probe(vmid, ANY_ASID, block, sizeLg2);
    if (index >= 0) this.#usedAt[index] = ++this.#clock;
    return index;
  }

  target(index: number): number {
    return this.#target[index];
  }

  attributes(index: number): number {
    return this.#attributes[index];
  }

  sizeLg2(index: number): number {
    return this.#sizeLg2[index];
  }

  /** Puts an entry in, in place of an equal one or of the set's least recently used. */
  insert(
    vmid: number,
    asid: number,
    address: number,
    sizeLg2: number,
    granuleLg2: number,
    target: number,
    attributes: number,
    leafLg2: number,
  ): void {
    const block = Math.floor(address / POWERS_OF_TWO[sizeLg2]);
    let index = this.#probe(vmid, asid, block, sizeLg2);
    if (index < 0) index = this.#victim(this.#setOf(vmid, asid, block));
    this.#remove(index);
    this.#sizeLg2[index] = sizeLg2;
    this.#block[index] = block;
    this.#asid[index] = asid;
    this.#vmid[index] = vmid;
    this.#granuleLg2[index] = granuleLg2;
    this.#leafLg2[index] = leafLg2;
    this.#target[index] = target;
    this.#attributes[index] = attributes;
    this.#usedAt[index] = ++this.#clock;
    if (asid === ANY_ASID) this.#globals++;
    if (leafLg2 !== sizeLg2) this.#fragments++;
    this.#liveBySize[sizeLg2]++;
    if (!this.#sizes.includes(sizeLg2)) {
      this.#sizes.push(sizeLg2);
      this.#sizes.sort((a, b) => a - b);
    }
  }

  /** Entries of VMIDs up to `last`. */
  removeVmidsUpTo(last: number): void {
    for (let index = 0; index < this.#sizeLg2.length; index++) {
      if (this.#vmid[index] <= last) this.#remove(index);
    }
  }

  removeVmid(vmid: number): void {
    for (let index = 0; index < this.#sizeLg2.length; index++) {
      if (this.#vmid[index] === vmid) this.#remove(index);
    }
  }

  /** Entries of one ASID; those that hold for all stay. */
  removeAsid(vmid: number, asid: number): void {
    for (let index = 0; index < this.#sizeLg2.length; index++) {
      if (this.#vmid[index] === vmid && this.#asid[index] === asid) this.#remove(index);
    }
  }

  /**
   * Entries whose leaves touch [first, last] and belong to `asid` (or to all; `ANY_ASID`: whatever
   * theirs). `sizeLg2` and `granuleLg2` restrict it to such leaves unless they are 0.
   */
  removeRange(
    vmid: number,
    asid: number,
    first: number,
    last: number,
    sizeLg2: number,
    granuleLg2: number,
  ): void {
    for (const size of this.#sizes) {
      if (this.#liveBySize[size] === 0 || (sizeLg2 !== 0 && size !== sizeLg2)) continue;
      const firstBlock = Math.floor(first / POWERS_OF_TWO[size]);
      const lastBlock = Math.floor(last / POWERS_OF_TWO[size]);
      const probes = (lastBlock - firstBlock + 1) * this.#ways;
      if (asid === ANY_ASID || probes > this.#sizeLg2.length) {
        this.#sweep(vmid, asid, firstBlock, lastBlock, size, granuleLg2);
        continue;
      }
      for (let block = firstBlock; block <= lastBlock; block++) {
        this.#removeBlock(vmid, asid, block, size, granuleLg2);
        if (this.#globals > 0) this.#removeBlock(vmid, ANY_ASID, block, size, granuleLg2);
      }
    }
    if (this.#fragments > 0) this.#sweepFragments(vmid, asid, first, last, sizeLg2, granuleLg2);
  }

  /** Fragments whose own block is not touched, but the leaf that they are made from is. */
  #sweepFragments(
    vmid: number,
    asid: number,
    first: number,
    last: number,
    leafLg2: number,
    granule: number,
  ): void {
    for (let index = 0; index < this.#sizeLg2.length; index++) {
      const leaf = this.#leafLg2[index];
      if (this.#sizeLg2[index] === leaf || this.#vmid[index] !== vmid) continue;
      if (leafLg2 !== 0 && leaf !== leafLg2) continue;
      if (granule !== 0 && this.#granuleLg2[index] !== granule) continue;
      const own = this.#asid[index];
      if (asid !== ANY_ASID && own !== asid && own !== ANY_ASID) continue;
      const bytes = POWERS_OF_TWO[leaf];
      const address = this.#block[index] * POWERS_OF_TWO[this.#sizeLg2[index]];
      const leafFirst = Math.floor(address / bytes) * bytes;
      if (leafFirst <= last && leafFirst + bytes > first) this.#remove(index);
    }
  }

  #removeBlock(vmid: number, asid: number, block: number, size: number, granule: number): void {
    const index = this.#probe(vmid, asid, block, size);
    if (index >= 0 && (granule === 0 || this.#granuleLg2[index] === granule)) this.#remove(index);
  }

  /** Looks at every entry: for large ranges, and when the ASID is not known. */
  #sweep(
    vmid: number,
    asid: number,
    firstBlock: number,
    lastBlock: number,
    size: number,
    granule: number,
  ): void {
    for (let index = 0; index < this.#sizeLg2.length; index++) {
      if (this.#sizeLg2[index] !== size || this.#vmid[index] !== vmid) continue;
      const own = this.#asid[index];
      if (asid !== ANY_ASID && own !== asid && own !== ANY_ASID) continue;
      if (granule !== 0 && this.#granuleLg2[index] !== granule) continue;
      const block = this.#block[index];
      if (block >= firstBlock && block <= lastBlock) this.#remove(index);
    }
  }

  #setOf(vmid: number, asid: number, block: number): number {
    return ((block | 0) + Math.imul(asid + 1, ASID_SPREAD) + vmid) & (this.#sets - 1);
  }

  #probe(vmid: number, asid: number, block: number, sizeLg2: number): number {
    const first = this.#setOf(vmid, asid, block) * this.#ways;
    for (let index = first; index < first + this.#ways; index++) {
      if (
        this.#block[index] === block &&
        this.#sizeLg2[index] === sizeLg2 &&
        this.#asid[index] === asid &&
        this.#vmid[index] === vmid
      ) {
        return index;
      }
    }
    return -1;
  }

  #victim(set: number): number {
    const first = set * this.#ways;
    let oldest = first;
    for (let index = first; index < first + this.#ways; index++) {
      if (this.#sizeLg2[index] === 0) return index;
      if (this.#usedAt[index] < this.#usedAt[oldest]) oldest = index;
    }
    return oldest;
  }

  #remove(index: number): void {
    const size = this.#sizeLg2[index];
    if (size === 0) return;
    this.#liveBySize[size]--;
    if (this.#asid[index] === ANY_ASID) this.#globals--;
    if (this.#leafLg2[index] !== size) this.#fragments--;
    this.#sizeLg2[index] = 0;
  }
}
