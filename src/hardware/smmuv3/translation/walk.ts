/**
 * The stage-1 table walk (Arm DDI 0487, D8.2; IHI 0070, 3.4), for any granule and size that
 * the context descriptor asks for. Starts at the deepest table that the walk cache knows, as
 * hardware does, so that a stale pointer to a table is really followed.
 *
 * In a nested stream tables lie at intermediate addresses, and the output is one. What is
 * cached leads to physical addresses: of tables that lie in one stage-2 leaf, and of as much
 * of a stage-1 leaf as a stage-2 leaf covers.
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
import { FaultClass } from "#arch/smmuv3";
import type { Agent, Routine } from "#machine";
import type { Iotlb } from "../caches/iotlb.js";
import { ANY_ASID } from "../caches/tagged-cache.js";
import type { ContextEntry, Region, Stage2 } from "../configuration/configuration.js";
import { type InputFaultName, inputFault, walkAbort } from "../reports/faults.js";
import type { FetchParts as WalkParts } from "./fetch.js";
import {
  addTableLimits,
  allows,
  combinedPermissions,
  leafPermissions,
  Permission,
} from "./permissions.js";
import { neededOf, translateIpa } from "./stage2.js";
import type { Transaction } from "./transaction.js";

export type { WalkParts };

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
  stage2: Stage2 | undefined,
): Routine<number> {
  const { iova } = transaction;
  const { iotlb, statistics } = parts;
  const region = iova < 0 ? context.upper : context.lower;
  if (region.isDisabled || !contains(region, iova)) return faulted(transaction, "F_TRANSLATION");
  statistics.walks++;
  const { granuleLg2 } = region;
  // The offset within the region is the same in either half.
  const offset = iova < 0 ? iova + POWERS_OF_TWO[region.inputBits] : iova;
  const outputLimit = POWERS_OF_TWO[context.outputBits];
  let level = region.startLevel;
  let table = region.table;
  let limits = 0;
  /** The table's address is an intermediate one. */
  let isNested = stage2 !== undefined;
  const cached = deepestCachedTable(iotlb, transaction, region);
  if (cached >= 0) {
    table = iotlb.tables.target(cached);
    limits = iotlb.tables.attributes(cached);
    level = levelOfSize(granuleLg2, iotlb.tables.sizeLg2(cached)) + 1;
    isNested = false;
    statistics.walkCacheHits++;
  }
  for (; ; level++) {
    // The top table may be indexed by fewer bits than others; then the offset is small enough.
    let at = table + tableIndex(granuleLg2, level, offset) * ENTRY_BYTES;
    if (stage2 !== undefined && isNested) {
      if (!(yield* translateDescriptor(agent, parts, transaction, stage2, at))) {
        return WALK_FAULTED;
      }
      const physical = transaction.stage2Address - (at - table);
      // A table that goes over several stage-2 leaves has no one physical address.
      if (level > region.startLevel && transaction.stage2LeafLg2 >= granuleLg2) {
        cacheTable(iotlb, transaction, granuleLg2, level - 1, physical, limits);
      }
      at = transaction.stage2Address;
    }
    isNested = stage2 !== undefined;
    if (parts.bus.aborts(at)) {
      transaction.fault = walkAbort(transaction, at);
      return WALK_FAULTED;
    }
    agent.workNs(parts.timing.walkStepNs);
    statistics.walkReads++;
    const lo = yield* agent.read64(at);
    const hi = agent.hi;
    const kind = entryKind(lo, level, granuleLg2, context.outputBits);
    if (kind === EntryKind.invalid) return faulted(transaction, "F_TRANSLATION");
    if (kind === EntryKind.leaf) {
      const permissions = checkLeaf(transaction, context, region, level, lo, hi, limits);
      if (permissions === WALK_FAULTED) return WALK_FAULTED;
      const tag = (lo & LO_NOT_GLOBAL) === 0 ? ANY_ASID : transaction.asid;
      if (stage2 !== undefined) {
        return yield* combine(agent, parts, transaction, stage2, tag, granuleLg2, permissions);
      }
      cacheLeaf(iotlb, transaction, tag, granuleLg2, transaction.leafSizeLg2, permissions);
      return permissions;
    }
    table = entryAddress(lo, hi, granuleLg2, granuleLg2);
    if (table >= outputLimit) return faulted(transaction, "F_ADDR_SIZE");
    if (!region.ignoresTableAttributes) limits = addTableLimits(limits, hi);
    if (!isNested) cacheTable(iotlb, transaction, granuleLg2, level, table, limits);
  }
}

function faulted(transaction: Transaction, name: InputFaultName): number {
  transaction.fault = inputFault(transaction, name);
  return WALK_FAULTED;
}

function* translateDescriptor(
  agent: Agent,
  parts: WalkParts,
  transaction: Transaction,
  stage2: Stage2,
  ipa: number,
): Routine<boolean> {
  const faultClass = FaultClass.translationTable;
  return yield* translateIpa(agent, parts, transaction, stage2, ipa, faultClass, Permission.read);
}

/**
 * Checks the leaf and notes its output, which is the outcome unless stage 2 follows. Faults by
 * priority: size before access.
 */
function checkLeaf(
  transaction: Transaction,
  context: ContextEntry,
  region: Region,
  level: number,
  lo: number,
  hi: number,
  limits: number,
): number {
  const { iova } = transaction;
  const { granuleLg2 } = region;
  const sizeLg2 = levelSizeLg2(granuleLg2, level);
  const sizeBytes = POWERS_OF_TWO[sizeLg2];
  const output = entryAddress(lo, hi, granuleLg2, sizeLg2);
  if (output >= POWERS_OF_TWO[context.outputBits]) return faulted(transaction, "F_ADDR_SIZE");
  // An entry without its access flag is not cached either.
  if ((lo & LO_AF) === 0 && !context.ignoresAccessFlag) return faulted(transaction, "F_ACCESS");
  const offset = iova - Math.floor(iova / sizeBytes) * sizeBytes;
  transaction.physicalAddress = output + offset;
  transaction.leafBytesLeft = sizeBytes - offset;
  transaction.leafSizeLg2 = sizeLg2;
  return leafPermissions(lo, hi, limits, context);
}

/** Stage 2 for the output of stage 1; returns what both allow together. */
function* combine(
  agent: Agent,
  parts: WalkParts,
  transaction: Transaction,
  stage2: Stage2,
  tag: number,
  granuleLg2: GranuleLg2,
  stage1: number,
): Routine<number> {
  const { access, physicalAddress: ipa, leafSizeLg2: leafLg2 } = transaction;
  transaction.ipa = ipa;
  // What stage 1 refuses never gets to stage 2.
  if (!allows(stage1, access)) return stage1;
  const faultClass = FaultClass.input;
  const needed = neededOf(access);
  if (!(yield* translateIpa(agent, parts, transaction, stage2, ipa, faultClass, needed))) {
    return WALK_FAULTED;
  }
  const { stage2Address, stage2LeafLg2, stage2Permissions } = transaction;
  const sizeLg2 = Math.min(leafLg2, stage2LeafLg2);
  const sizeBytes = POWERS_OF_TWO[sizeLg2];
  transaction.physicalAddress = stage2Address;
  transaction.leafBytesLeft = sizeBytes - (stage2Address % sizeBytes);
  transaction.leafSizeLg2 = sizeLg2;
  const permissions = combinedPermissions(stage1, stage2Permissions);
  cacheLeaf(parts.iotlb, transaction, tag, granuleLg2, leafLg2, permissions);
  return permissions;
}

/** Caches the outcome unless an invalidation has hit the stage-1 leaf that it is (a part) of. */
function cacheLeaf(
  iotlb: Iotlb,
  transaction: Transaction,
  tag: number,
  granuleLg2: GranuleLg2,
  leafLg2: number,
  permissions: number,
): void {
  const { vmid, iova, physicalAddress, leafStaleFirst, leafStaleLast } = transaction;
  const { leafSizeLg2: sizeLg2 } = transaction;
  const leafBytes = POWERS_OF_TWO[leafLg2];
  const leafFirst = Math.floor(iova / leafBytes) * leafBytes;
  if (leafStaleFirst < leafFirst + leafBytes && leafStaleLast >= leafFirst) return;
  const offset = physicalAddress % POWERS_OF_TWO[sizeLg2];
  const target = physicalAddress - offset;
  iotlb.leaves.insert(vmid, tag, iova, sizeLg2, granuleLg2, target, permissions, leafLg2);
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
  if (isStale) return;
  iotlb.tables.insert(vmid, asid, first, sizeLg2, granuleLg2, table, limits, sizeLg2);
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
