/**
 * What a leaf allows, without and with privilege (Arm DDI 0487, D8.4), for people to read. The
 * model in hardware/ has the same rules as bits in its IOTLB; a test holds the two together.
 */

import {
  HI_AP_TABLE_NO_UNPRIVILEGED,
  HI_AP_TABLE_READ_ONLY,
  HI_PXN,
  HI_PXN_TABLE,
  HI_UXN,
  HI_XN_TABLE,
  LO_AP_READ_ONLY,
  LO_AP_UNPRIVILEGED,
  LO_S2_MEM_ATTR_MASK,
  LO_S2_MEM_ATTR_SHIFT,
  LO_S2_READ,
  LO_S2_WRITE,
} from "#arch/lpae";

export interface Rights {
  readonly read: boolean;
  readonly write: boolean;
  readonly execute: boolean;
}

export interface Permissions {
  readonly unprivileged: Rights;
  readonly privileged: Rights;
}

export type AccessKind = keyof Rights;

const ALL_RIGHTS: Rights = { read: true, write: true, execute: true };
const NO_RIGHTS: Rights = { read: false, write: false, execute: false };
export const ALL_PERMISSIONS: Permissions = { unprivileged: ALL_RIGHTS, privileged: ALL_RIGHTS };

/** Limits from the tables above a leaf: bits of their high halves, which add up. */
const TABLE_LIMITS =
  HI_AP_TABLE_NO_UNPRIVILEGED | HI_AP_TABLE_READ_ONLY | HI_XN_TABLE | HI_PXN_TABLE;

export function addLimits(limits: number, tableHi: number): number {
  return limits | (tableHi & TABLE_LIMITS);
}

export interface Stage1Controls {
  readonly writableIsNotExecutable: boolean;
  readonly privilegedAccessNever: boolean;
  /** The regime has one privilege level (EL2): AP[1] and PXN mean nothing. */
  readonly hasOneLevel: boolean;
}

export function stage1Permissions(
  lo: number,
  hi: number,
  limits: number,
  controls: Stage1Controls,
): Permissions {
  const write = (lo & LO_AP_READ_ONLY) === 0 && (limits & HI_AP_TABLE_READ_ONLY) === 0;
  const neverAny = (hi & HI_UXN) !== 0 || (limits & HI_XN_TABLE) !== 0;
  const blockedByWrite = write && controls.writableIsNotExecutable;
  if (controls.hasOneLevel) {
    const rights = { read: true, write, execute: !neverAny && !blockedByWrite };
    return { unprivileged: rights, privileged: rights };
  }
  const isOpen = (lo & LO_AP_UNPRIVILEGED) !== 0 && (limits & HI_AP_TABLE_NO_UNPRIVILEGED) === 0;
  const unprivileged = isOpen
    ? { read: true, write, execute: !neverAny && !blockedByWrite }
    : NO_RIGHTS;
  // What can be written without privilege is never executed with it.
  const neverPrivileged =
    (hi & HI_PXN) !== 0 || (limits & HI_PXN_TABLE) !== 0 || (write && isOpen) || blockedByWrite;
  const isHidden = isOpen && controls.privilegedAccessNever;
  return {
    unprivileged,
    privileged: { read: !isHidden, write: write && !isHidden, execute: !neverPrivileged },
  };
}

export function stage2Permissions(lo: number, hi: number, isExtended: boolean): Permissions {
  const read = (lo & LO_S2_READ) !== 0;
  const write = (lo & LO_S2_WRITE) !== 0;
  // XN[1:0] in bits 54:53: 0 nothing forbidden, 1 privileged, 2 both, 3 unprivileged. Without
  // XNX only the upper bit counts, for both.
  const upper = (hi & HI_UXN) !== 0;
  const neverPrivileged = isExtended ? upper !== ((hi & HI_PXN) !== 0) : upper;
  return {
    unprivileged: { read, write, execute: !upper },
    privileged: { read, write, execute: !neverPrivileged },
  };
}

/** MemAttr of 0 to 3: what the leaf maps is device memory (without FWB). */
export function isStage2Device(lo: number): boolean {
  return (lo & LO_S2_MEM_ATTR_MASK) >>> LO_S2_MEM_ATTR_SHIFT < 4;
}

/** What both stages allow. */
export function both(one: Permissions, other: Permissions): Permissions {
  const rights = (a: Rights, b: Rights): Rights => ({
    read: a.read && b.read,
    write: a.write && b.write,
    execute: a.execute && b.execute,
  });
  return {
    unprivileged: rights(one.unprivileged, other.unprivileged),
    privileged: rights(one.privileged, other.privileged),
  };
}

export function allowsAccess(of: Permissions, kind: AccessKind, isPrivileged: boolean): boolean {
  return (isPrivileged ? of.privileged : of.unprivileged)[kind];
}

/** `rw-` and so on. */
export function rightsText({ read, write, execute }: Rights): string {
  return `${read ? "r" : "-"}${write ? "w" : "-"}${execute ? "x" : "-"}`;
}
