/** Fault records by what went wrong; the fields are those of IHI 0070, 7.3. */

import { FaultClass, type KnownEvent } from "#arch/smmuv3";
import { assert, type PhysicalAddress } from "#machine";
import { Access, NO_SUBSTREAM, type Transaction } from "../translation/transaction.js";

/** Faults of a translation: all with the same record. */
export type InputFaultName = "F_TRANSLATION" | "F_ADDR_SIZE" | "F_ACCESS" | "F_PERMISSION";
export type TranslationFault = Extract<KnownEvent, { readonly name: InputFaultName }>;
/** Records name intermediate addresses by 4 KiB. */
const IPA_UNIT = 4096;
/** Bad configuration: only where it is. */
export type ConfigurationFaultName =
  | "C_BAD_STREAMID"
  | "C_BAD_STE"
  | "C_BAD_SUBSTREAMID"
  | "C_BAD_CD";

interface Source {
  readonly substreamValid: number;
  readonly substreamId: number;
  readonly streamId: number;
}

function sourceOf(transaction: Transaction): Source {
  const { streamId, substreamId } = transaction;
  return substreamId === NO_SUBSTREAM
    ? { substreamValid: 0, substreamId: 0, streamId }
    : { substreamValid: 1, substreamId, streamId };
}

export function configurationFault(
  transaction: Transaction,
  name: ConfigurationFaultName,
): KnownEvent {
  return { name, ...sourceOf(transaction) };
}

export function streamDisabled(transaction: Transaction): KnownEvent {
  return { name: "F_STREAM_DISABLED", streamId: transaction.streamId };
}

/** A translation request that this stream may not make; what it asked for is in the record. */
export function badTranslationRequest(transaction: Transaction): KnownEvent {
  const { requestedAccess, iova } = transaction;
  return {
    name: "F_BAD_ATS_TREQ",
    ...sourceOf(transaction),
    span: 1,
    asksPrivileged: (requestedAccess & Access.privileged) === 0 ? 0 : 1,
    asksExecute: (requestedAccess & Access.instruction) === 0 ? 0 : 1,
    asksWrite: (requestedAccess & Access.write) === 0 ? 0 : 1,
    asksRead: 1,
    inputAddress: iova,
  };
}

/** A translated access that this stream may not make. */
export function translationForbidden(transaction: Transaction): KnownEvent {
  const { read } = accessOf(transaction);
  const { streamId, iova } = transaction;
  return { name: "F_TRANSL_FORBIDDEN", streamId, read, inputAddress: iova };
}

/** A read of a stream table entry or context descriptor that was answered with an abort. */
export function fetchFault(
  transaction: Transaction,
  name: "F_STE_FETCH" | "F_CD_FETCH",
  fetchAddress: PhysicalAddress,
): KnownEvent {
  return { name, ...sourceOf(transaction), reason: 0, fetchAddress };
}

/** A stage-1 table entry that could not be read: of the tables' class, nested or not. */
export function walkAbort(transaction: Transaction, fetchAddress: PhysicalAddress): KnownEvent {
  return tableAbort(transaction, 0, FaultClass.translationTable, fetchAddress);
}

/** A stage-2 table entry that could not be read, for an access of `faultClass`. */
export function stage2WalkAbort(
  transaction: Transaction,
  faultClass: FaultClass,
  fetchAddress: PhysicalAddress,
): KnownEvent {
  return tableAbort(transaction, 1, faultClass, fetchAddress);
}

function tableAbort(
  transaction: Transaction,
  stage2: 0 | 1,
  faultClass: FaultClass,
  fetchAddress: PhysicalAddress,
): KnownEvent {
  return {
    name: "F_WALK_EABT",
    ...sourceOf(transaction),
    ...accessOf(transaction),
    stage2,
    faultClass,
    inputAddress: transaction.iova,
    reason: 0,
    fetchAddress,
  };
}

/** A fault of stage 1, or of the input address where stage 1 is bypassed. */
export function inputFault(transaction: Transaction, name: InputFaultName): TranslationFault {
  return translationFault(transaction, name, 0, FaultClass.input, 0);
}

/** A fault of stage 2 at `ipa`, which is what was to be read, or where stage 1 leads. */
export function stage2Fault(
  transaction: Transaction,
  name: InputFaultName,
  faultClass: FaultClass,
  ipa: number,
): TranslationFault {
  return translationFault(transaction, name, 1, faultClass, ipa - (ipa % IPA_UNIT));
}

function translationFault(
  transaction: Transaction,
  name: InputFaultName,
  stage2: 0 | 1,
  faultClass: FaultClass,
  ipa: number,
): TranslationFault {
  const isTableRead = name === "F_PERMISSION" && faultClass === FaultClass.translationTable;
  return {
    name,
    ...sourceOf(transaction),
    ...accessOf(transaction),
    stage2,
    faultClass,
    tableRead: isTableRead ? 1 : 0,
    inputAddress: transaction.iova,
    stallTag: 0,
    stall: 0,
    ipa,
  };
}

/** The same fault of a transaction that is held under `stallTag`. */
export function stalledFault(fault: KnownEvent | undefined, stallTag: number): KnownEvent {
  assert(fault !== undefined && "stallTag" in fault, "faults that stall have a place for a tag");
  return { ...fault, stall: 1, stallTag };
}

/** Whether it is one of the four whose recording CD.R and STE.S2R decide (5.5). */
export function isTranslationFault(fault: KnownEvent): fault is TranslationFault {
  switch (fault.name) {
    case "F_TRANSLATION":
    case "F_ADDR_SIZE":
    case "F_ACCESS":
    case "F_PERMISSION":
      return true;
    default:
      return false;
  }
}

function accessOf(transaction: Transaction): {
  privileged: number;
  instruction: number;
  read: number;
} {
  const { access } = transaction;
  return {
    privileged: (access & Access.privileged) === 0 ? 0 : 1,
    instruction: (access & Access.instruction) === 0 ? 0 : 1,
    read: (access & Access.write) === 0 ? 1 : 0,
  };
}
