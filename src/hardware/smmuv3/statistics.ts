/** Counters of a model; they only grow. */

import { OPCODE_COUNT } from "#arch/smmuv3";

export interface SmmuV3Statistics {
  iotlbHits: number;
  iotlbMisses: number;
  /** Walks begun, and entries of tables that they read. */
  walks: number;
  walkReads: number;
  /** Walks that started below the top because of the walk cache. */
  walkCacheHits: number;
  /** Intermediate addresses that the stage-2 cache knew, and walks for those that it did not. */
  stage2Hits: number;
  stage2Walks: number;
  /** Stream table entries and context descriptors read from memory. */
  configurationFetches: number;
  /** Commands consumed, by opcode. */
  readonly commands: Float64Array;
  /** Event records written, by type. */
  readonly events: Float64Array;
  /** Event records lost: queue full, disabled or not writable. */
  eventsLost: number;
  /** Page requests queued, and those that were answered at once or dropped. */
  pageRequests: number;
  pageRequestsLost: number;
}

export function newStatistics(): SmmuV3Statistics {
  return {
    iotlbHits: 0,
    iotlbMisses: 0,
    walks: 0,
    walkReads: 0,
    walkCacheHits: 0,
    stage2Hits: 0,
    stage2Walks: 0,
    configurationFetches: 0,
    commands: new Float64Array(OPCODE_COUNT),
    // Event types have 8 bits, as opcodes have.
    events: new Float64Array(OPCODE_COUNT),
    eventsLost: 0,
    pageRequests: 0,
    pageRequestsLost: 0,
  };
}
