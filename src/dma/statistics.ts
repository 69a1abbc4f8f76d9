/** Counts of deferred invalidation, per domain: what a replay compares with a capture. */

export interface LazyStatistics {
  /** Unmaps put into a queue. */
  queued: number;
  /** Queue entries whose addresses were given back. */
  released: number;
  /** Flushes of the whole domain started because a CPU's queue was full. */
  flushesByFullQueue: number;
  /** The same because the oldest entry had waited for the timeout. */
  flushesByTimer: number;
}

export function noLazyStatistics(): LazyStatistics {
  return { queued: 0, released: 0, flushesByFullQueue: 0, flushesByTimer: 0 };
}
