/**
 * The translation caches: the IOTLB with leaves, and the walk cache with pointers to tables,
 * both tagged with VMID and ASID; the same two for intermediate addresses, tagged with the
 * VMID; and the walks under way, which an invalidation must stop from caching what they read
 * before it (IHI 0070, 3.17 and 4.4).
 *
 * Of a nested stream the first two hold both stages in one: input to physical addresses, and
 * where stage-1 tables lie physically. Commands for stage 1 remove those, the command for an
 * intermediate address does not, as the architecture allows.
 *
 * An entry stays until it is replaced or invalidated, whatever happens to the tables in
 * memory. Leaf invalidations leave the walk caches alone.
 */

import { type GranuleLg2, levelSizeLg2 } from "#arch/lpae";
import type { Transaction } from "../translation/transaction.js";
import { ANY_ASID, TaggedCache } from "./tagged-cache.js";

export interface IotlbShape {
  readonly entries: number;
  readonly ways: number;
  readonly walkEntries: number;
  readonly walkWays: number;
}

/**
 * Assumed: a mid-size server part. QEMU's has 256 entries without structure. The caches of
 * intermediate addresses have the same shape.
 */
export const DEFAULT_IOTLB: IotlbShape = { entries: 512, ways: 4, walkEntries: 256, walkWays: 4 };

/** Above are the tags of EL2. */
const VMID_LAST = 0xffff;

export class Iotlb {
  readonly leaves: TaggedCache;
  readonly tables: TaggedCache;
  /** Of intermediate addresses, for stage 2. */
  readonly ipaLeaves: TaggedCache;
  readonly ipaTables: TaggedCache;
  readonly #walks: Transaction[] = [];

  constructor(shape: IotlbShape) {
    this.leaves = new TaggedCache(shape.entries, shape.ways);
    this.tables = new TaggedCache(shape.walkEntries, shape.walkWays);
    this.ipaLeaves = new TaggedCache(shape.entries, shape.ways);
    this.ipaTables = new TaggedCache(shape.walkEntries, shape.walkWays);
  }

  /** From here on invalidations are watched for the transaction's vmid, asid and iova. */
  beginWalk(walk: Transaction): void {
    walk.leafStaleFirst = Number.POSITIVE_INFINITY;
    walk.leafStaleLast = Number.NEGATIVE_INFINITY;
    walk.tableStaleFirst = Number.POSITIVE_INFINITY;
    walk.tableStaleLast = Number.NEGATIVE_INFINITY;
    walk.ipaStaleFirst = Number.POSITIVE_INFINITY;
    walk.ipaStaleLast = Number.NEGATIVE_INFINITY;
    this.#walks.push(walk);
  }

  endWalk(walk: Transaction): void {
    const index = this.#walks.indexOf(walk);
    const last = this.#walks.pop() as Transaction;
    if (index < this.#walks.length) this.#walks[index] = last;
  }

  /** All that NS-EL1 has, in both stages. */
  invalidateNonHyp(): void {
    for (const cache of [this.leaves, this.tables, this.ipaLeaves, this.ipaTables]) {
      cache.removeVmidsUpTo(VMID_LAST);
    }
    for (const walk of this.#walks) {
      if (walk.vmid > VMID_LAST) continue;
      spoilAll(walk);
      spoilIpa(walk, 0, Number.POSITIVE_INFINITY);
    }
  }

  /** What a VMID (or an `El2Tag`) has of stage 1, alone or combined with stage 2. */
  invalidateVmid(vmid: number): void {
    this.leaves.removeVmid(vmid);
    this.tables.removeVmid(vmid);
    for (const walk of this.#walks) if (walk.vmid === vmid) spoilAll(walk);
  }

  /** What a VMID has of both stages. */
  invalidateBothStages(vmid: number): void {
    this.invalidateVmid(vmid);
    this.ipaLeaves.removeVmid(vmid);
    this.ipaTables.removeVmid(vmid);
    for (const walk of this.#walks) {
      if (walk.vmid === vmid) spoilIpa(walk, 0, Number.POSITIVE_INFINITY);
    }
  }

  /** Intermediate addresses first..last of a VMID; hints as with `invalidateRange`. */
  invalidateIpa(
    vmid: number,
    first: number,
    last: number,
    leafOnly: boolean,
    granuleLg2: number,
    level: number,
  ): void {
    const sizeLg2 = sizeOfHint(granuleLg2, level);
    this.ipaLeaves.removeRange(vmid, ANY_ASID, first, last, sizeLg2, granuleLg2);
    if (!leafOnly) this.ipaTables.removeRange(vmid, ANY_ASID, first, last, 0, granuleLg2);
    for (const walk of this.#walks) if (walk.vmid === vmid) spoilIpa(walk, first, last);
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
    const sizeLg2 = sizeOfHint(granuleLg2, level);
    this.leaves.removeRange(vmid, asid, first, last, sizeLg2, granuleLg2);
    if (!leafOnly) this.tables.removeRange(vmid, asid, first, last, 0, granuleLg2);
    for (const walk of this.#walks) {
      if (walk.vmid !== vmid || (asid !== ANY_ASID && walk.asid !== asid)) continue;
      spoil(walk, first, last, leafOnly);
    }
  }
}

/** log2 of the leaves that TG and TTL mean; 0: any. */
function sizeOfHint(granuleLg2: number, level: number): number {
  if (granuleLg2 === 0 || level === 0) return 0;
  return levelSizeLg2(granuleLg2 as GranuleLg2, level);
}

/** Whatever was read of stage 2, leaf or not, is not cached. */
function spoilIpa(walk: Transaction, first: number, last: number): void {
  walk.ipaStaleFirst = Math.min(walk.ipaStaleFirst, first);
  walk.ipaStaleLast = Math.max(walk.ipaStaleLast, last);
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
