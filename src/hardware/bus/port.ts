/**
 * What a device and the IOMMU in front of it say to each other about ordinary accesses.
 *
 * A device asks its `DmaPort` to translate an access, makes the access, and tells that it has
 * made it. Models of IOMMUs offer such a port; an endpoint with a cache of its own
 * (`hardware/devices`) offers one to the device that sits behind it.
 */

import type { Agent, Iova, Pasid, PhysicalAddress, Routine, StreamId } from "#machine";

/** Kinds of access as bits; without `write` and `instruction` it is a read of data. */
export const DmaAccess = { read: 0, write: 1, instruction: 2, privileged: 4 } as const;

/** What becomes of an access. */
export const DmaStatus = {
  translated: 0,
  /** Aborted; the transaction's fault says why. */
  fault: 1,
  /** Aborted without a reason to report. */
  aborted: 2,
  /** Completes without effect: reads return zeros, writes do nothing. */
  ignored: 3,
} as const;
export type DmaStatus = (typeof DmaStatus)[keyof typeof DmaStatus];

/** A hardware fault record, discriminated by its architected name. */
export interface DmaFault {
  readonly name: string;
}

/** A transaction on its way through an IOMMU, with the outcome of its last translation. */
export interface DmaTransaction {
  readonly physicalAddress: PhysicalAddress;
  /** Bytes from `physicalAddress` on that share the outcome; also of an ignored access. */
  readonly leafBytesLeft: number;
  /** What was found wrong; undefined when the IOMMU aborts without saying. */
  readonly fault: DmaFault | undefined;
}

/** What a device needs of what is in front of it. */
export interface DmaPort {
  /** For a device to use for one access after another. */
  newTransaction(streamId: StreamId, substreamId?: Pasid): DmaTransaction;
  /** Translates one access (`DmaAccess` bits); after `translated` the device calls `finish`. */
  translate(
    agent: Agent,
    transaction: DmaTransaction,
    iova: Iova,
    access: number,
  ): Routine<DmaStatus>;
  /** Tells that the access that was translated has been made. */
  finish(agent: Agent, transaction: DmaTransaction): void;
}
