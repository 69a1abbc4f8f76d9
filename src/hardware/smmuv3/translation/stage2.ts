/**
 * Stage 2: from intermediate physical addresses to physical ones (Arm DDI 0487, D8.2; IHI
 * 0070, 3.4), for transactions of a stage-2 stream, and for whatever a nested stream reads:
 * context descriptors, stage-1 tables, and the output of stage 1.
 *
 * The outcome is in the transaction's `stage2…` fields. Translations of intermediate
 * addresses are cached apart from those of input addresses, since other commands remove them.
 */

import {
  bitsPerLevel,
  ENTRY_BYTES,
  EntryKind,
  entryAddress,
  entryKind,
  LAST_LEVEL,
  LO_AF,
  levelSizeLg2,
  POWERS_OF_TWO,
  tableIndex,
} from "#arch/lpae";
import { FaultClass } from "#arch/smmuv3";
import type { Agent, Routine } from "#machine";
import type { Iotlb } from "../caches/iotlb.js";
import type { Stage2 } from "../configuration/configuration.js";
import { stage2Fault, stage2WalkAbort } from "../reports/faults.js";
import type { FetchParts } from "./fetch.js";
import { Permission, stage2LeafPermissions } from "./permissions.js";
import { Access, type Transaction } from "./transaction.js";

/** Stage 2 knows no ASIDs. */
const NO_ASID = 0;

/**
 * Translates one address, from the cache or by a walk, and checks that it allows `needed`
 * (`Permission` bits); false with `fault` set when it does not. The caller has told the IOTLB
 * of a walk.
 */
export function* translateIpa(
  agent: Agent,
  parts: FetchParts,
  transaction: Transaction,
  stage2: Stage2,
  ipa: number,
  faultClass: FaultClass,
  needed: number,
): Routine<boolean> {
  if (findIpa(agent, parts, transaction, ipa)) parts.statistics.stage2Hits++;
  else if (!(yield* walkIpa(agent, parts, transaction, stage2, ipa, faultClass))) return false;
  return checkIpa(transaction, stage2, ipa, faultClass, needed);
}

/** Whether the cache knows the address; then the outcome is in the transaction. */
export function findIpa(
  agent: Agent,
  { iotlb, timing }: FetchParts,
  transaction: Transaction,
  ipa: number,
): boolean {
  const { ipaLeaves } = iotlb;
  agent.workNs(timing.iotlbHitNs);
  const index = ipaLeaves.find(transaction.vmid, NO_ASID, ipa);
  if (index < 0) return false;
  const sizeLg2 = ipaLeaves.sizeLg2(index);
  transaction.stage2Address = ipaLeaves.target(index) + (ipa % POWERS_OF_TWO[sizeLg2]);
  transaction.stage2LeafLg2 = sizeLg2;
  transaction.stage2Permissions = ipaLeaves.attributes(index);
  return true;
}

/** Whether the outcome allows what is needed; otherwise `fault` is set. */
export function checkIpa(
  transaction: Transaction,
  stage2: Stage2,
  ipa: number,
  faultClass: FaultClass,
  needed: number,
): boolean {
  const { stage2Permissions } = transaction;
  const isProtected =
    faultClass !== FaultClass.input &&
    stage2.protectsTableWalks &&
    (stage2Permissions & Permission.stage2Device) !== 0;
  if ((stage2Permissions & needed) === needed && !isProtected) return true;
  transaction.fault = stage2Fault(transaction, "F_PERMISSION", faultClass, ipa);
  return false;
}

/** Walks the tables; false with `fault` set when that leads nowhere. */
export function* walkIpa(
  agent: Agent,
  parts: FetchParts,
  transaction: Transaction,
  stage2: Stage2,
  ipa: number,
  faultClass: FaultClass,
): Routine<boolean> {
  const { iotlb, statistics } = parts;
  const { granuleLg2, startLevel, outputBits } = stage2;
  if (ipa >= POWERS_OF_TWO[stage2.inputBits]) {
    transaction.fault = stage2Fault(transaction, "F_TRANSLATION", faultClass, ipa);
    return false;
  }
  statistics.stage2Walks++;
  let { table } = stage2;
  let level = startLevel;
  const cached = deepestCachedTable(iotlb, transaction, stage2, ipa);
  if (cached >= 0) {
    table = iotlb.ipaTables.target(cached);
    const aboveLeafLg2 = iotlb.ipaTables.sizeLg2(cached) - granuleLg2;
    level = LAST_LEVEL - aboveLeafLg2 / bitsPerLevel(granuleLg2) + 1;
  }
  for (; ; level++) {
    const at = table + indexAt(stage2, level, ipa) * ENTRY_BYTES;
    if (parts.bus.aborts(at)) {
      transaction.fault = stage2WalkAbort(transaction, faultClass, at);
      return false;
    }
    agent.workNs(parts.timing.walkStepNs);
    statistics.walkReads++;
    const lo = yield* agent.read64(at);
    const hi = agent.hi;
    const kind = entryKind(lo, level, granuleLg2, outputBits);
    if (kind === EntryKind.invalid) {
      transaction.fault = stage2Fault(transaction, "F_TRANSLATION", faultClass, ipa);
      return false;
    }
    if (kind === EntryKind.leaf) {
      return finish(iotlb, transaction, stage2, ipa, faultClass, level, lo, hi);
    }
    table = entryAddress(lo, hi, granuleLg2, granuleLg2);
    if (table >= POWERS_OF_TWO[outputBits]) {
      transaction.fault = stage2Fault(transaction, "F_ADDR_SIZE", faultClass, ipa);
      return false;
    }
    cacheTable(iotlb, transaction, stage2, ipa, level, table);
  }
}

/** Checks the leaf, notes the outcome and caches it. Faults by priority: size before access. */
function finish(
  iotlb: Iotlb,
  transaction: Transaction,
  stage2: Stage2,
  ipa: number,
  faultClass: FaultClass,
  level: number,
  lo: number,
  hi: number,
): boolean {
  const { granuleLg2 } = stage2;
  const sizeLg2 = levelSizeLg2(granuleLg2, level);
  const output = entryAddress(lo, hi, granuleLg2, sizeLg2);
  if (output >= POWERS_OF_TWO[stage2.outputBits]) {
    transaction.fault = stage2Fault(transaction, "F_ADDR_SIZE", faultClass, ipa);
    return false;
  }
  if ((lo & LO_AF) === 0 && !stage2.ignoresAccessFlag) {
    transaction.fault = stage2Fault(transaction, "F_ACCESS", faultClass, ipa);
    return false;
  }
  const offset = ipa % POWERS_OF_TWO[sizeLg2];
  const permissions = stage2LeafPermissions(lo, hi);
  transaction.stage2Address = output + offset;
  transaction.stage2LeafLg2 = sizeLg2;
  transaction.stage2Permissions = permissions;
  if (!isStale(transaction, ipa - offset, sizeLg2)) {
    const { vmid } = transaction;
    iotlb.ipaLeaves.insert(
      vmid,
      NO_ASID,
      ipa - offset,
      sizeLg2,
      granuleLg2,
      output,
      permissions,
      sizeLg2,
    );
  }
  return true;
}

function cacheTable(
  iotlb: Iotlb,
  transaction: Transaction,
  { granuleLg2 }: Stage2,
  ipa: number,
  level: number,
  table: number,
): void {
  const sizeLg2 = levelSizeLg2(granuleLg2, level);
  const first = ipa - (ipa % POWERS_OF_TWO[sizeLg2]);
  if (isStale(transaction, first, sizeLg2)) return;
  const { vmid } = transaction;
  iotlb.ipaTables.insert(vmid, NO_ASID, first, sizeLg2, granuleLg2, table, 0, sizeLg2);
}

/** An invalidation since the walk began has hit these addresses. */
function isStale(transaction: Transaction, first: number, sizeLg2: number): boolean {
  const { ipaStaleFirst, ipaStaleLast } = transaction;
  return ipaStaleFirst < first + POWERS_OF_TWO[sizeLg2] && ipaStaleLast >= first;
}

/** Index of the deepest table for the address that the walk cache knows; -1 when none. */
function deepestCachedTable(
  iotlb: Iotlb,
  { vmid }: Transaction,
  { granuleLg2, startLevel }: Stage2,
  ipa: number,
): number {
  for (let level = LAST_LEVEL - 1; level >= startLevel; level--) {
    const sizeLg2 = levelSizeLg2(granuleLg2, level);
    const index = iotlb.ipaTables.findSize(vmid, NO_ASID, ipa, sizeLg2);
    if (index >= 0) return index;
  }
  return -1;
}

/** Where the walk starts, tables may stand side by side: their index has up to four bits more. */
function indexAt(stage2: Stage2, level: number, ipa: number): number {
  const { granuleLg2 } = stage2;
  if (level > stage2.startLevel) return tableIndex(granuleLg2, level, ipa);
  return Math.floor(ipa / POWERS_OF_TWO[levelSizeLg2(granuleLg2, level)]);
}

/** What stage 2 has to allow for an access, whoever makes it (IDR3.XNX = 0). */
export function neededOf(access: number): number {
  if ((access & Access.instruction) !== 0) return Permission.execute;
  return (access & Access.write) !== 0 ? Permission.write : Permission.read;
}
