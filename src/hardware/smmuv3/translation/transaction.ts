/**
 * A transaction of a device on its way through the SMMU.
 *
 * The device owns it and uses it again for one access after another; while an access is
 * under way the SMMU notes here what it still has to watch. The last outcome is in the
 * public fields.
 */

import type { KnownEvent } from "#arch/smmuv3";
import { DmaAccess, DmaStatus, NOT_IN_FLIGHT } from "#hardware/bus";
import type { Iova, Pasid, PhysicalAddress, StreamId } from "#machine";
import type { ContextEntry, StreamEntry } from "../configuration/configuration.js";

/** Kinds of access as bits, as the bus has them. */
export const Access = DmaAccess;

/** What becomes of an access, as the bus has it; the outcome is in the transaction. */
export const TranslationStatus = {
  ok: DmaStatus.translated,
  /** Aborted; `fault` says why. The event may still be one that is not recorded. */
  fault: DmaStatus.fault,
  /** Aborted without a reason to report: STE.Config or GBPA say so. */
  aborted: DmaStatus.aborted,
  /** `fault` says why, but the device is not told: reads return zeros, writes do nothing. */
  ignored: DmaStatus.ignored,
} as const;
export type TranslationStatus = DmaStatus;

/** No SubstreamID comes with the transaction. */
export const NO_SUBSTREAM = -1;

export class Transaction {
  readonly streamId: StreamId;
  readonly substreamId: Pasid;
  /** Set when the translation was ok. */
  physicalAddress: PhysicalAddress = 0;
  /** Bytes from `physicalAddress` on that the same leaf covers. */
  leafBytesLeft = 0;
  /** log2 of the bytes that the leaf covers. */
  leafSizeLg2 = 0;
  /** What the leaf allows, as the bits of permissions.ts. */
  permissions = 0;
  /** Set when a translation request was answered: bits of `AtsGrant`. */
  granted = 0;
  /** Set when it was not, except for silent aborts. */
  fault: KnownEvent | undefined;

  // --- the SMMU's ---

  iova: Iova = 0;
  access = 0;
  /** An endpoint asks for the translation; it makes no access (ats.ts). */
  isRequest = false;
  /** What it asks for, as `Access` bits. */
  requestedAccess = 0;
  /** Output of stage 1, where stage 2 follows. */
  ipa = 0;
  /** It was stalled, and software has asked for another try. */
  isRetry = false;
  /** Which generation of what is in flight it belongs to. */
  epoch = NOT_IN_FLIGHT;
  /** Configuration used last; looked up again once it was invalidated. */
  stream: StreamEntry | undefined;
  context: ContextEntry | undefined;
  /** Tags of the walk under way. */
  vmid = 0;
  asid = 0;
  /** An invalidation has hit what is being fetched: use it for this access, do not cache it. */
  isConfigurationStale = false;
  /** Input addresses invalidated since the walk began; inclusive, none while first > last. */
  leafStaleFirst = 0;
  leafStaleLast = -1;
  tableStaleFirst = 0;
  tableStaleLast = -1;
  /** The same for intermediate physical addresses. */
  ipaStaleFirst = 0;
  ipaStaleLast = -1;
  /** Where stage 2 led, the size of its leaf, and what that allows. */
  stage2Address: PhysicalAddress = 0;
  stage2LeafLg2 = 0;
  stage2Permissions = 0;
  /** Structure being read: eight 32-bit words suffice, since the rest has nothing for us. */
  readonly words = new Uint32Array(8);

  constructor(streamId: StreamId, substreamId: Pasid = NO_SUBSTREAM) {
    this.streamId = streamId;
    this.substreamId = substreamId;
  }
}
