/** What an endpoint can be told when it is made, how long it takes, and what it counts. */

import type { AtsDmaPort } from "#hardware/bus";
import type { StreamId } from "#machine";

/** Times in nanoseconds. */
export interface EndpointTiming {
  /** One way between the endpoint and its IOMMU. */
  readonly linkNs: number;
  /** A look into the cache. */
  readonly atcLookupNs: number;
  /** Taking one range out of the cache. */
  readonly invalidateNs: number;
  /** A write to configuration space, which its writer waits for. */
  readonly configurationNs: number;
  /** Until an access is tried again whose page request was answered, but did not help. */
  readonly pageRetryNs: number;
}

/**
 * Assumed. A read over PCI Express takes between 500 and 1000 ns there and back, of which the
 * link and the root complex have about half; the rest are small structures at about 1 GHz.
 */
export const DEFAULT_ENDPOINT_TIMING: EndpointTiming = {
  linkNs: 200,
  atcLookupNs: 5,
  invalidateNs: 50,
  configurationNs: 500,
  // As long as a fault handler takes that has the page at hand.
  pageRetryNs: 10_000,
};

export interface EndpointOptions {
  readonly name: string;
  readonly streamId: StreamId;
  readonly iommu: AtsDmaPort;
  /** Translations that are kept; 128 by default, which is assumed. */
  readonly atcEntries?: number;
  /** Invalidations that are taken at a time; by default the most that ATS has, 32. */
  readonly invalidateQueueDepth?: number;
  /** Page requests for one access, after which it fails; 50 by default. */
  readonly pageRequestsMax?: number;
  /** Changes to `DEFAULT_ENDPOINT_TIMING`. */
  readonly timing?: Partial<EndpointTiming>;
}

export const ATC_ENTRIES = 128;
/** Tags of invalidations have 5 bits (10.3.1). */
export const INVALIDATE_QUEUE_DEPTH = 32;
/** Outlasts a page request queue that is full for half a millisecond. */
export const PAGE_REQUESTS_MAX = 50;

export interface EndpointStatistics {
  atcHits: number;
  atcMisses: number;
  /** Answers to translation requests that an invalidation had overtaken. */
  staleAnswers: number;
  /** Invalidations answered. */
  invalidations: number;
  pageRequests: number;
}
