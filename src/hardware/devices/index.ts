/** Devices that do DMA. */

export { DmaAccess, type DmaFault, type DmaPort, type DmaTransaction } from "#hardware/bus";
export {
  createDmaDevice,
  type DmaAbort,
  type DmaDevice,
  type DmaDeviceOptions,
  type DmaResult,
  deviceRead,
  deviceWrite,
} from "./dma-engine.js";
export { Endpoint, type EndpointAts, type EndpointFaultName } from "./endpoint/endpoint.js";
export {
  DEFAULT_ENDPOINT_TIMING,
  type EndpointOptions,
  type EndpointStatistics,
  type EndpointTiming,
} from "./endpoint/options.js";
export type { PageNeed } from "./endpoint/page-requests.js";
export type { EndpointTransaction } from "./endpoint/translation-client.js";
export { Link, type LinkTiming } from "./link.js";
export { createMessageTarget, type MessageTarget } from "./message-target.js";
export { createNic, type NicModel, type NicOptions, type NicTiming } from "./nic/nic.js";
export { createNvme, type NvmeModel } from "./nvme/controller.js";
export { DEFAULT_NVME, type NvmeOptions, type NvmeTiming } from "./nvme/options.js";
export type { NvmeStatistics } from "./nvme/state.js";
export type { Server } from "./server.js";
