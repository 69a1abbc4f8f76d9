/**
 * iommukit: a complete DMA-mapping and IOMMU stack. This is the easy face; every room has a
 * door of its own (`iommukit/machine`, `iommukit/dma`, …) for those who want the parts.
 */

export { DmaAccess, type DmaFault, type DmaResult } from "#hardware/devices";
export {
  type CommandListener,
  createSystem,
  type DirectionName,
  MappingError,
  MODES,
  type Mode,
  type ReadResult,
  type SmmuInstance,
  type System,
  type SystemCounters,
  type SystemDevice,
  type SystemOptions,
} from "#workloads";
