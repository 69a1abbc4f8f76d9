/**
 * What endpoints and IOMMUs say to each other when endpoints keep translations (PCI Express
 * Base Specification, chapter 10: ATS and the Page Request Interface).
 *
 * Upstream go translation requests, translated accesses, page requests and the answers to
 * invalidations; downstream go invalidations and page responses. Downstream messages are
 * posted: the callee notes them and returns, and an agent of its own deals with them.
 */

import type { Agent, Iova, Pasid, PhysicalAddress, Routine, StreamId } from "#machine";
import type { DmaPort, DmaStatus, DmaTransaction } from "./port.js";

/** Completion status of a translation request, by the codes of PCI Express (2.2.9). */
export const AtsCompletion = { success: 0, unsupportedRequest: 1, completerAbort: 4 } as const;
export type AtsCompletion = (typeof AtsCompletion)[keyof typeof AtsCompletion];

/** What a translation grants, as bits; none: there is no translation. */
export const AtsGrant = { read: 1, write: 2, execute: 4 } as const;

/** With `success`, what the completion says. */
export interface AtsTransaction extends DmaTransaction {
  /** Bits of `AtsGrant`, for the privilege that was asked for. */
  readonly granted: number;
  /** log2 of the aligned bytes around the address that the answer covers. */
  readonly leafSizeLg2: number;
}

/** "No PASID" in messages. */
export const NO_PASID: Pasid = -1;

/** Forget what is cached of addresses first..last. */
export interface AtsInvalidation {
  readonly first: Iova;
  /** Inclusive. */
  readonly last: Iova;
  /** Only of this PASID; with `NO_PASID` of all, and of requests without one. */
  readonly pasid: Pasid;
  /** What the answer has to carry. */
  readonly tag: number;
}

export interface PageRequest {
  readonly streamId: StreamId;
  readonly pasid: Pasid;
  /** Of a page of 4 KiB. */
  readonly iova: Iova;
  /** What the endpoint wants to do with the page. */
  readonly wantsRead: boolean;
  readonly wantsWrite: boolean;
  readonly wantsExecute: boolean;
  readonly isPrivileged: boolean;
  /** Which group the request belongs to: 9 bits, chosen by the endpoint. */
  readonly groupIndex: number;
  /** The last of its group: it is what gets the response. */
  readonly isLast: boolean;
}

/** Codes of a page request group's response (10.4.2.1). */
export const PageResponseCode = { success: 0, invalidRequest: 1, responseFailure: 15 } as const;
export type PageResponseCode = (typeof PageResponseCode)[keyof typeof PageResponseCode];

export interface PageGroupResponse {
  readonly groupIndex: number;
  readonly pasid: Pasid;
  readonly code: PageResponseCode;
}

/** What an IOMMU offers to endpoints that cache translations. */
export interface AtsPort {
  /** From here on the IOMMU can reach the endpoint, by its StreamID. */
  connect(endpoint: AtsEndpoint): void;
  /** Asks for a translation; the answer is in the transaction. No `finish` follows. */
  requestTranslation(
    agent: Agent,
    transaction: AtsTransaction,
    iova: Iova,
    access: number,
  ): Routine<AtsCompletion>;
  /** An access with an address that was translated before; after `translated`, `finish` follows. */
  passTranslated(
    agent: Agent,
    transaction: AtsTransaction,
    address: PhysicalAddress,
    access: number,
  ): Routine<DmaStatus>;
  /** The answer to an invalidation; it arrives at `arrivesNs` of virtual time. */
  completeInvalidation(by: Agent, tag: number, arrivesNs: number): void;
  /** Asks software for a page; the group's last request gets a response. */
  requestPage(agent: Agent, request: PageRequest): Routine;
}

/** An IOMMU that also speaks ATS. */
export interface AtsDmaPort extends DmaPort {
  newTransaction(streamId: StreamId, substreamId?: Pasid): AtsTransaction;
  readonly ats: AtsPort;
}

/** What an IOMMU needs of an endpoint. */
export interface AtsEndpoint {
  readonly streamId: StreamId;
  /** Invalidations that it takes at a time (Invalidate Queue Depth of its ATS capability). */
  readonly invalidateQueueDepth: number;
  invalidate(by: Agent, request: AtsInvalidation): void;
  respond(by: Agent, response: PageGroupResponse): void;
}
