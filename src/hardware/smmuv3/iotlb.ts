/**
 * The translation caches: the IOTLB with leaves, and the walk cache with pointers to tables,
 * both tagged with VMID and ASID; and the walks under way, which an invalidation must stop
 * from caching what they read before it (IHI 0070, 3.17 and 4.4).
 *
 * An entry stays until it is replaced or invalidated, whatever happens to the tables in
 * memory. Leaf invalidations leave the walk cache alone.
 */

import { levelSizeLg2 } from "#arch/lpae";
import { ANY_ASID, TaggedCache } from "./tagged-cache.js";
import type { Transaction } from "./transaction.js";

export interface IotlbShape {
  readonly entries: number;
  readonly ways: number;
  readonly walkEntries: number;
  readonly walkWays: number;
}

/** Assumed: a mid-size server part. QEMU's has 256 entries without structure. */
export const DEFAULT_IOTLB: IotlbShape = { entries: 512, ways: 4, walkEntries: 256, walkWays: 4 };

export class Iotlb {
  readonly leaves: TaggedCache;
  readonly tables: TaggedCache;
  readonly #walks: Transaction[] = [];

  constructor(shape: IotlbShape) {
    this.leaves = new TaggedCache(shape.entries, shape.ways);
    this.tables = new TaggedCache(shape.walkEntries, shape.walkWays);
  }

  /** From here on invalidations are watched for the transaction's vmid, asid and iova. */
  beginWalk(walk: Transaction): void {
    walk.leafStaleFirst = Number.POSITIVE_INFINITY;
    walk.leafStaleLast = Number.NEGATIVE_INFINITY;
    walk.tableStaleFirst = Number.POSITIVE_INFINITY;
    walk.tableStaleLast = Number.NEGATIVE_INFINITY;
    this.#walks.push(walk);
  }

  endWalk(walk: Transaction): void {
    const index = this.#walks.indexOf(walk);
    const last = this.#walks.pop() as Transaction;
    if (index < this.#walks.length) this.#walks[index] = last;
  }

  invalidateAll(): void {
    this.leaves.removeAll();
    this.tables.removeAll();
    for (const walk of this.#walks) spoilAll(walk);
  }

  invalidateVmid(vmid: number): void {
    this.leaves.removeVmid(vmid);
    this.tables.removeVmid(vmid);
    for (const walk of this.#walks) if (walk.vmid === vmid) spoilAll(walk);
  }

  invalidateAsid(vmid: number, asid: number): void {
    this.leaves.removeAsid(vmid, asid);
    this.tables.removeAsid(vmid, asid);
    for (const walk of this.#walks) {
      if (walk.vmid === vmid && walk.asid === asid) spoilAll(walk);
    }
  }

  /**
   * Addresses first..last of an ASID (`ANY_ASID`: of all). With `granuleLg2` other than 0 only
   * leaves of such tables, with `level` other than 0 only those of that level: a hint that the
   * architecture lets an SMMU rely on, so this one does, and wrong hints show.
   */
  invalidateRange(
    vmid: number,
    asid: number,
    first: number,
    last: number,
    leafOnly: boolean,
    granuleLg2: number,
    level: number,
  ): void {
    const granule = granuleLg2 as 12 | 14 | 16;
    const sizeLg2 = granuleLg2 === 0 || level === 0 ? 0 : levelSizeLg2(granule, level);
    this.leaves.removeRange(vmid, asid, first, last, sizeLg2, granuleLg2);
    if (!leafOnly) this.tables.removeRange(vmid, asid, first, last, 0, granuleLg2);
    for (const walk of this.#walks) {
      if (walk.vmid !== vmid || (asid !== ANY_ASID && walk.asid !== asid)) continue;
      spoil(walk, first, last, leafOnly);
    }
  }
}

function spoilAll(walk: Transaction): void {
  spoil(walk, Number.NEGATIVE_INFINITY, Number.POSITIVE_INFINITY, false);
}

/** Widens what is stale; the hull of several ranges may be more than was asked, never less. */
function spoil(walk: Transaction, first: number, last: number, leafOnly: boolean): void {
  walk.leafStaleFirst = Math.min(walk.leafStaleFirst, first);
  walk.leafStaleLast = Math.max(walk.leafStaleLast, last);
  if (leafOnly) return;
  walk.tableStaleFirst = Math.min(walk.tableStaleFirst, first);
  walk.tableStaleLast = Math.max(walk.tableStaleLast, last);
}
