/**
 * A model of the Arm SMMUv3, by its registers and structures in memory. In folders of their own:
 * `configuration/` (stream table and context descriptors), `translation/` (walks, both stages,
 * ATS), `caches/`, `commands/`, `reports/` (faults, events, page requests, stalls).
 */

export { DEFAULT_IOTLB, type IotlbShape } from "./caches/iotlb.js";
export {
  capabilitiesWith,
  DEFAULT_CAPABILITIES,
  FULL_CAPABILITIES,
  type SmmuV3Capabilities,
} from "./capabilities.js";
export type { CommandObserver } from "./commands/commands.js";
export type { CommandFault, FaultInjection, RecordQueue, Signal } from "./fault-injection.js";
export type { InterruptLines } from "./interrupts.js";
export { type CachedCounts, createSmmuV3, type SmmuV3, type SmmuV3Options } from "./model.js";
export type { SmmuV3Statistics } from "./statistics.js";
export { DEFAULT_TIMING, type SmmuV3Timing } from "./timing.js";
export { Access, NO_SUBSTREAM, Transaction, TranslationStatus } from "./translation/transaction.js";
