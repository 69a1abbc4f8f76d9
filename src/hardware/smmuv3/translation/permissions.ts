/**
 * What leaves allow (Arm DDI 0487, D8.4): those of stage 1 as six bits, read, write and
 * execute without and with privilege; those of stage 2 as three, whoever asks.
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
import type { ContextEntry } from "../configuration/configuration.js";
import { Access } from "./transaction.js";

export const Permission = {
  read: 1,
  write: 2,
  execute: 4,
  /** Not a permission: a stage-2 leaf is of a Device type. */
  stage2Device: 8,
} as const;
const { read: READ, write: WRITE, execute: EXECUTE } = Permission;
const ANY_OF_STAGE2 = READ | WRITE | EXECUTE;
/** The privileged three lie above the unprivileged three. */
const PRIVILEGED_SHIFT = 3;

/** Everything, to everybody: where nothing is translated. */
export const ALL_PERMISSIONS = 0x3f;

/** Limits that tables on the way down impose; they add up. */
export const TableLimit = {
  noUnprivileged: 1,
  readOnly: 2,
  noUnprivilegedExecute: 4,
  noPrivilegedExecute: 8,
} as const;

/** `limits` with those of one more table entry, given by its high half. */
export function addTableLimits(limits: number, hi: number): number {
  return (
    limits |
    ((hi & HI_AP_TABLE_NO_UNPRIVILEGED) !== 0 ? TableLimit.noUnprivileged : 0) |
    ((hi & HI_AP_TABLE_READ_ONLY) !== 0 ? TableLimit.readOnly : 0) |
    ((hi & HI_XN_TABLE) !== 0 ? TableLimit.noUnprivilegedExecute : 0) |
    ((hi & HI_PXN_TABLE) !== 0 ? TableLimit.noPrivilegedExecute : 0)
  );
}

/** The permissions of a leaf below tables with `limits`. */
export function leafPermissions(
  lo: number,
  hi: number,
  limits: number,
  context: ContextEntry,
): number {
  const writable = (lo & LO_AP_READ_ONLY) === 0 && (limits & TableLimit.readOnly) === 0;
  if (!context.hasPrivilegeLevels) return el2Permissions(hi, limits, writable, context);
  const unprivileged =
    (lo & LO_AP_UNPRIVILEGED) !== 0 && (limits & TableLimit.noUnprivileged) === 0;
  const data = READ | (writable ? WRITE : 0);
  let user = unprivileged ? data : 0;
  const neverUser = (hi & HI_UXN) !== 0 || (limits & TableLimit.noUnprivilegedExecute) !== 0;
  if (unprivileged && !neverUser && !(writable && context.writableIsNotExecutable)) user |= EXECUTE;
  let privileged = unprivileged && context.privilegedAccessNever ? 0 : data;
  // What can be written without privilege is never executed with it.
  const neverPrivileged =
    (hi & HI_PXN) !== 0 ||
    (limits & TableLimit.noPrivilegedExecute) !== 0 ||
    (writable && (unprivileged || context.writableIsNotExecutable));
  if (!neverPrivileged) privileged |= EXECUTE;
  return user | (privileged << PRIVILEGED_SHIFT);
}

/** EL2 without E2H: AP[1] does not count, XN is where UXN is, all is as with privilege. */
function el2Permissions(
  hi: number,
  limits: number,
  writable: boolean,
  context: ContextEntry,
): number {
  const never =
    (hi & HI_UXN) !== 0 ||
    (limits & TableLimit.noUnprivilegedExecute) !== 0 ||
    (writable && context.writableIsNotExecutable);
  const each = READ | (writable ? WRITE : 0) | (never ? 0 : EXECUTE);
  return each | (each << PRIVILEGED_SHIFT);
}

/**
 * The permissions of a stage-2 leaf, which may be executed without being readable; XN is bit
 * 54 alone (IDR3.XNX = 0). MemAttr of 0 to 3 is a Device type (IDR3.FWB = 0).
 */
export function stage2LeafPermissions(lo: number, hi: number): number {
  const memoryType = (lo & LO_S2_MEM_ATTR_MASK) >>> LO_S2_MEM_ATTR_SHIFT;
  return (
    ((lo & LO_S2_READ) === 0 ? 0 : READ) |
    ((lo & LO_S2_WRITE) === 0 ? 0 : WRITE) |
    ((hi & HI_UXN) === 0 ? EXECUTE : 0) |
    (memoryType < 4 ? Permission.stage2Device : 0)
  );
}

/** What a leaf of stage 1 over one of stage 2 allows, as the six bits of stage 1. */
export function combinedPermissions(stage1: number, stage2: number): number {
  const either = stage2 & ANY_OF_STAGE2;
  return stage1 & (either | (either << PRIVILEGED_SHIFT));
}

/** Whether `permissions` allow an access of this kind. */
export function allows(permissions: number, access: number): boolean {
  let needed: number = READ;
  if ((access & Access.instruction) !== 0) needed = EXECUTE;
  else if ((access & Access.write) !== 0) needed = WRITE;
  if ((access & Access.privileged) !== 0) needed <<= PRIVILEGED_SHIFT;
  return (permissions & needed) !== 0;
}
