/** The driver of Arm's SMMUv3. */

export { ArrayInvalidation } from "./array-invalidation.js";
export { CommandBatch, CommandBatches } from "./command-batch.js";
export {
  type CommandQueue,
  type CommandQueueKind,
  type CommandQueueOptions,
  createCommandQueue,
  type QueueSpinlock,
  type ReservationKind,
} from "./command-queue.js";
export type { SmmuDomain } from "./domain.js";
export { createSmmuV3Driver, type SmmuV3Driver, type SmmuV3DriverOptions } from "./driver.js";
export { abortSte, bypassSte, CD_FORMAT, STE_FORMAT, stage1Ste } from "./entry-formats.js";
export { ENTRY_QUADS, ENTRY_WORDS, type EntryFormat, writeEntry } from "./entry-writer.js";
export { handleGlobalErrors } from "./gerror.js";
export { InvalidationKind, InvalidationList, type SmmuInstance } from "./invalidation.js";
export type { GuestCommands, NestedSmmuDomain, VirtualSmmu } from "./nested.js";
export type { PageRequestPolicy } from "./page-requests.js";
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
export type { SyncCompletion } from "./sync-completion.js";
