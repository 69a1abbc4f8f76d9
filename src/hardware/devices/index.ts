/** Devices that do DMA. */

export {
  createDmaDevice,
  type DmaAbort,
  DmaAccess,
  type DmaDevice,
  type DmaDeviceOptions,
  type DmaFault,
  type DmaPort,
  type DmaResult,
  type DmaTransaction,
  deviceRead,
  deviceWrite,
} from "./dma-engine.js";
