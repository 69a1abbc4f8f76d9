/**
 * What a stage-1 leaf allows, as six bits: read, write and execute without and with
 * privilege (Arm DDI 0487, D8.4; stream world NS-EL1).
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
} from "#arch/lpae";
import type { ContextEntry } from "./configuration.js";
import { Access } from "./transaction.js";

const READ = 1;
const WRITE = 2;
const EXECUTE = 4;
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

/** Whether `permissions` allow an access of this kind. */
export function allows(permissions: number, access: number): boolean {
  let needed = READ;
  if ((access & Access.instruction) !== 0) needed = EXECUTE;
  else if ((access & Access.write) !== 0) needed = WRITE;
  if ((access & Access.privileged) !== 0) needed <<= PRIVILEGED_SHIFT;
  return (permissions & needed) !== 0;
}
