/** The IOMMU core: domains, map and unmap in supported page sizes, the gather, faults. */

export type {
  DomainType,
  FaultReport,
  FixedDomain,
  IommuDevice,
  IommuDomain,
  IommuDriver,
  PagingDomain,
} from "./driver.js";
export { gatherAddPage, IotlbGather } from "./gather.js";
