/** Fault records by what went wrong; the fields are those of IHI 0070, 7.3. */

import { FaultClass, type KnownEvent } from "#arch/smmuv3";
import { assert, type PhysicalAddress } from "#machine";
import { Access, NO_SUBSTREAM, type Transaction } from "./transaction.js";

/** Faults of the input address: all with the same record. */
export type InputFaultName = "F_TRANSLATION" | "F_ADDR_SIZE" | "F_ACCESS" | "F_PERMISSION";
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

/** A read of a stream table entry or context descriptor that was answered with an abort. */
export function fetchFault(
  transaction: Transaction,
  name: "F_STE_FETCH" | "F_CD_FETCH",
  fetchAddress: PhysicalAddress,
): KnownEvent {
  return { name, ...sourceOf(transaction), reason: 0, fetchAddress };
}

/** A table entry that could not be read. Stage 1 alone reports it as of the tables' class. */
export function walkAbort(transaction: Transaction, fetchAddress: PhysicalAddress): KnownEvent {
  return {
    name: "F_WALK_EABT",
    ...sourceOf(transaction),
    ...accessOf(transaction),
    stage2: 0,
    faultClass: FaultClass.translationTable,
    tableRead: 1,
    inputAddress: transaction.iova,
    reason: 0,
    fetchAddress,
  };
}

export function inputFault(transaction: Transaction, name: InputFaultName): KnownEvent {
  return {
    name,
    ...sourceOf(transaction),
    ...accessOf(transaction),
    stage2: 0,
    faultClass: FaultClass.input,
    tableRead: 0,
    inputAddress: transaction.iova,
    stallTag: 0,
    stall: 0,
    ipa: 0,
  };
}

/** The same fault of a transaction that is held under `stallTag`. */
export function stalledFault(fault: KnownEvent | undefined, stallTag: number): KnownEvent {
  assert(fault !== undefined && "stallTag" in fault, "faults that stall have a place for a tag");
  return { ...fault, stall: 1, stallTag };
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
