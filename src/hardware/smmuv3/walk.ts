/**
 * The stage-1 table walk (Arm DDI 0487, D8.2; IHI 0070, 3.4), for any granule and size that
 * the context descriptor asks for. Starts at the deepest table that the walk cache knows, as
 * hardware does, so that a stale pointer to a table is really followed.
 */

import {
  bitsPerLevel,
  ENTRY_BYTES,
  EntryKind,
  entryAddress,
  entryKind,
  type GranuleLg2,
  LAST_LEVEL,
  LO_AF,
  LO_NOT_GLOBAL,
  levelSizeLg2,
  POWERS_OF_TWO,
  tableIndex,
} from "#arch/lpae";
import type { Agent, Routine } from "#machine";
import type { ContextEntry, Region } from "./configuration.js";
import { inputFault, walkAbort } from "./faults.js";
import type { FetchParts } from "./fetch.js";
import type { Iotlb } from "./iotlb.js";
import { addTableLimits, leafPermissions } from "./permissions.js";
import { ANY_ASID } from "./tagged-cache.js";
import type { Transaction } from "./transaction.js";

export interface WalkParts extends FetchParts {
  readonly iotlb: Iotlb;
}

/** No leaf: `fault` is set, and -1 comes back in place of permissions. */
export const WALK_FAULTED = -1;

/**
 * Translates the transaction's address: sets its outcome and returns the leaf's permissions.
 * Whether they suffice is for the caller, since the leaf is cached in either case. The caller
 * has told the IOTLB of the walk.
 */
export function* walk(
  agent: Agent,
  parts: WalkParts,
  transaction: Transaction,
  context: ContextEntry,
): Routine<number> {
  const { iova } = transaction;
  const { iotlb, statistics } = parts;
  const region = iova < 0 ? context.upper : context.lower;
  if (region.isDisabled || !contains(region, iova)) {
    transaction.fault = inputFault(transaction, "F_TRANSLATION");
    return WALK_FAULTED;
  }
  statistics.walks++;
  const { granuleLg2 } = region;
  // The offset within the region is the same in either half.
  const offset = iova < 0 ? iova + POWERS_OF_TWO[region.inputBits] : iova;
  const outputLimit = POWERS_OF_TWO[context.outputBits];
  let level = region.startLevel;
  let table = region.table;
  let limits = 0;
  const cached = deepestCachedTable(iotlb, transaction, region);
  if (cached >= 0) {
    table = iotlb.tables.target(cached);
    limits = iotlb.tables.attributes(cached);
    level = levelOfSize(granuleLg2, iotlb.tables.sizeLg2(cached)) + 1;
    statistics.walkCacheHits++;
  }
  for (; ; level++) {
    // The top table may be indexed by fewer bits than others; then the offset is small enough.
    const at = table + tableIndex(granuleLg2, level, offset) * ENTRY_BYTES;
    if (parts.bus.aborts(at)) {
      transaction.fault = walkAbort(transaction, at);
      return WALK_FAULTED;
    }
    agent.workNs(parts.timing.walkStepNs);
    statistics.walkReads++;
    const lo = yield* agent.read64(at);
    const hi = agent.hi;
    const kind = entryKind(lo, level, granuleLg2, context.outputBits);
    if (kind === EntryKind.invalid) {
      transaction.fault = inputFault(transaction, "F_TRANSLATION");
      return WALK_FAULTED;
    }
    if (kind === EntryKind.leaf) {
      return finish(parts, transaction, context, region, level, lo, hi, limits);
    }
    table = entryAddress(lo, hi, granuleLg2, granuleLg2);
    if (table >= outputLimit) {
      transaction.fault = inputFault(transaction, "F_ADDR_SIZE");
      return WALK_FAULTED;
    }
    if (!region.ignoresTableAttributes) limits = addTableLimits(limits, hi);
    cacheTable(iotlb, transaction, granuleLg2, level, table, limits);
  }
}

/** Checks the leaf, notes the outcome and caches it. Faults by priority: size before access. */
function finish(
  parts: WalkParts,
  transaction: Transaction,
  context: ContextEntry,
  region: Region,
  level: number,
  lo: number,
  hi: number,
  limits: number,
): number {
  const { iova, vmid } = transaction;
  const { granuleLg2 } = region;
  const sizeLg2 = levelSizeLg2(granuleLg2, level);
  const sizeBytes = POWERS_OF_TWO[sizeLg2];
  const output = entryAddress(lo, hi, granuleLg2, sizeLg2);
  if (output >= POWERS_OF_TWO[context.outputBits]) {
    transaction.fault = inputFault(transaction, "F_ADDR_SIZE");
    return WALK_FAULTED;
  }
  // An entry without its access flag is not cached either.
  if ((lo & LO_AF) === 0 && !context.ignoresAccessFlag) {
    transaction.fault = inputFault(transaction, "F_ACCESS");
    return WALK_FAULTED;
  }
  const permissions = leafPermissions(lo, hi, limits, context);
  const first = Math.floor(iova / sizeBytes) * sizeBytes;
  transaction.physicalAddress = output + (iova - first);
  transaction.leafBytesLeft = sizeBytes - (iova - first);
  transaction.leafSizeLg2 = sizeLg2;
  const isStale =
    transaction.leafStaleFirst < first + sizeBytes && transaction.leafStaleLast >= first;
  if (!isStale) {
    const tag = (lo & LO_NOT_GLOBAL) === 0 ? ANY_ASID : transaction.asid;
    parts.iotlb.leaves.insert(vmid, tag, first, sizeLg2, granuleLg2, output, permissions);
  }
  return permissions;
}

function cacheTable(
  iotlb: Iotlb,
  transaction: Transaction,
  granuleLg2: Region["granuleLg2"],
  level: number,
  table: number,
  limits: number,
): void {
  const { iova, vmid, asid } = transaction;
  const sizeLg2 = levelSizeLg2(granuleLg2, level);
  const sizeBytes = POWERS_OF_TWO[sizeLg2];
  const first = Math.floor(iova / sizeBytes) * sizeBytes;
  const isStale =
    transaction.tableStaleFirst < first + sizeBytes && transaction.tableStaleLast >= first;
  if (!isStale) iotlb.tables.insert(vmid, asid, first, sizeLg2, granuleLg2, table, limits);
}

/** Index of the deepest table for the address that the walk cache knows; -1 when none. */
function deepestCachedTable(iotlb: Iotlb, transaction: Transaction, region: Region): number {
  const { vmid, asid, iova } = transaction;
  for (let level = LAST_LEVEL - 1; level >= region.startLevel; level--) {
    const sizeLg2 = levelSizeLg2(region.granuleLg2, level);
    const index = iotlb.tables.findSize(vmid, asid, iova, sizeLg2);
    if (index >= 0) return index;
  }
  return -1;
}

function levelOfSize(granuleLg2: GranuleLg2, sizeLg2: number): number {
  return LAST_LEVEL - (sizeLg2 - granuleLg2) / bitsPerLevel(granuleLg2);
}

function contains(region: Region, iova: number): boolean {
  const size = POWERS_OF_TWO[region.inputBits];
  return iova < 0 ? iova >= -size : iova < size;
}
