/** A user-space NVMe driver: queues, PRPs and I/O, all of its DMA through the DMA API. */

export {
  closeIoQueue,
  type NvmeController,
  type NvmeControllerOptions,
  openIoQueue,
  openNamespace,
  resetController,
  shutDownController,
  startController,
} from "./controller.js";
export { NvmeError, type NvmeErrorCode } from "./errors.js";
export type { IoQueue, NvmeNamespace } from "./io.js";
export { CommandWord, type ControllerIdentity, IoOpcode } from "./layout.js";
export type { QueuePair } from "./queue.js";
export type { Capabilities } from "./registers.js";
export { decodeStatus, type NvmeStatus } from "./status.js";
