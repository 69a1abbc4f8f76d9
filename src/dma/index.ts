/** The DMA API: what device drivers call to make memory visible to their devices. */

export { allocateIova } from "./allocate-iova.js";
export {
  allocCoherent,
  allocNoncoherent,
  type DmaBuffer,
  freeCoherent,
  freeNoncoherent,
} from "./coherent.js";
export { Attribute, Direction, type DirectionCode, DMA_MAPPING_ERROR } from "./constants.js";
export {
  type DmaDevice,
  type DmaGroup,
  type IovaAllocatorMaker,
  setDmaMask,
} from "./dma-device.js";
export type { DmaDomain } from "./dma-domain.js";
export { domainTypeOf, setDomainType } from "./domain-type.js";
export {
  FLUSH_QUEUE_LIMITS,
  FlushQueue,
  type FlushQueueKind,
  type FlushQueueLimits,
  type FlushQueueOptions,
} from "./flush-queue.js";
export {
  type BuildDefault,
  type KernelCommandLine,
  parseKernelCommandLine,
  wantedDomainType,
} from "./kernel-command-line.js";
export { mapPage, mapResource, mapSingle } from "./map-page.js";
export { mapSg, unmapSg } from "./map-sg.js";
export { mapMsiDoorbell } from "./msi.js";
export { type ScatterElement, type ScatterList, scatterList } from "./scatter-list.js";
export {
  bindDriver,
  type DmaDeviceOptions,
  type DmaSystemOptions,
  destroyDmaGroup,
  setupDmaDevice,
  setupDmaDevices,
  unbindDriver,
} from "./setup.js";
export { type LazyStatistics, noLazyStatistics } from "./statistics.js";
export { syncSgForCpu, syncSgForDevice, syncSingleForCpu, syncSingleForDevice } from "./sync.js";
export { unmapPage, unmapResource, unmapSingle } from "./unmap-page.js";
