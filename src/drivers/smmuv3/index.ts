/**
 * The driver of Arm's SMMUv3. In folders of their own: `entries/` (stream table entries, context
 * descriptors and their tables), `command-queue/`, `invalidation/` (what a domain's changes have
 * to invalidate, and by which commands), `faults/` (what the SMMU reports). Beside this file are
 * domains, devices and what brings the SMMU up.
 */

export { CommandBatch, CommandBatches } from "./command-queue/command-batch.js";
export {
  type CommandQueue,
  type CommandQueueKind,
  type CommandQueueOptions,
  createCommandQueue,
  type QueueSpinlock,
  type ReservationKind,
} from "./command-queue/command-queue.js";
export type { SyncCompletion } from "./command-queue/sync-completion.js";
export type { SmmuDomain } from "./domain.js";
export { createSmmuV3Driver, type SmmuV3Driver, type SmmuV3DriverOptions } from "./driver.js";
export { abortSte, bypassSte, CD_FORMAT, STE_FORMAT, stage1Ste } from "./entries/entry-formats.js";
export { ENTRY_QUADS, ENTRY_WORDS, type EntryFormat, writeEntry } from "./entries/entry-writer.js";
export { handleGlobalErrors } from "./faults/gerror.js";
export type { PageRequestPolicy } from "./faults/page-requests.js";
export { ArrayInvalidation } from "./invalidation/array-invalidation.js";
export {
  InvalidationKind,
  InvalidationList,
  type SmmuInstance,
} from "./invalidation/invalidation.js";
export type { GuestCommands, NestedSmmuDomain, VirtualSmmu } from "./nested.js";
export type { Features } from "./probe.js";
export {
  type ReportListener,
  type SmmuReport,
  SmmuV3Error,
  type SmmuV3ErrorCode,
} from "./reports.js";
export {
  type InvalidationScheme,
  type MultiInstance,
  SmmuShared,
  type SmmuSharedOptions,
} from "./shared.js";
