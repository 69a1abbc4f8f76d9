/** A user-space NVMe driver: queues, PRPs and I/O, all of its DMA through the DMA API. */

export {
  type Capabilities,
  CommandWord,
  type ControllerIdentity,
  IoOpcode,
} from "#arch/nvme";
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
export type { QueuePair } from "./queue.js";
export { decodeStatus, type NvmeStatus } from "./status.js";
