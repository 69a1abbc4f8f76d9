/**
 * iommukit: a complete DMA-mapping and IOMMU stack. This is the easy face; every room has a
 * door of its own (`iommukit/machine`, `iommukit/dma`, …) for those who want the parts.
 */

export { DmaAccess, type DmaFault, type DmaResult } from "#hardware/devices";
export {
  createSystem,
  type DirectionName,
  MappingError,
  MODES,
  type Mode,
  type ReadResult,
  type System,
  type SystemDevice,
  type SystemOptions,
} from "#workloads";
