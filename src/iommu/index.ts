/** The IOMMU core: domains, map and unmap in supported page sizes, the gather, groups, faults. */

export {
  chooseDefaultType,
  type DefaultDomainType,
  type DefaultTypeQuestion,
  parseTypeRequest,
  type TypeRequest,
  type TypeSwitch,
  typeSwitch,
  UntrustedDeviceError,
} from "./default-domain.js";
export type {
  AtsControl,
  DomainType,
  FaultReport,
  FixedDomain,
  IommuDevice,
  IommuDomain,
  IommuDriver,
  NestedDomain,
  PagingDomain,
  PagingOptions,
} from "./driver.js";
export { gatherAddPage, IotlbGather, syncGather } from "./gather.js";
export {
  attachGroup,
  claimOwnership,
  createGroup,
  DirectMappingError,
  destroyGroup,
  type GroupOptions,
  type IommuGroup,
  releaseOwnership,
  setGroupType,
  unuseDefaultDomain,
  useDefaultDomain,
} from "./group.js";
export { attachGroupPasid, detachGroupPasid, replaceGroupPasid } from "./group-pasid.js";
export {
  NO_PASID,
  type PageAccess,
  type PageFaultHandler,
  PageFaultQueue,
  type PageFaultQueueOptions,
  type PageRequest,
  type PageResponseCode,
} from "./io-page-fault.js";
export { mapOnDemand, type PageBacking, type PageProvider } from "./io-page-fault-handler.js";
export { iommuMap, iommuMapSg, type PhysicalRange } from "./map.js";
export {
  isKeptFromAllocator,
  mapDirectRegions,
  type ReservedKind,
  type ReservedRegion,
} from "./reserved-region.js";
export { MapStatus, type MapStatusCode } from "./status.js";
export { iommuUnmap, iommuUnmapFast } from "./unmap.js";
