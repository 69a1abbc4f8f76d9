/**
 * The page fault handler that maps on demand: what a process's address space is to the
 * kernel's (drivers/iommu/iommu-sva.c), a user-supplied function is to this one.
 */

import type { Cpu, Iova, PhysicalAddress, Routine } from "#machine";
import { Protection } from "#pagetable";
import type { PagingDomain } from "./driver.js";
import type {
  PageAccess,
  PageFaultHandler,
  PageRequest,
  PageResponseCode,
} from "./io-page-fault.js";
import { iommuMap } from "./map.js";
import { MapStatus } from "./status.js";

/** What is behind a page. */
export interface PageBacking {
  readonly paddr: PhysicalAddress;
  /** `Protection` bits. */
  readonly protection: number;
}

/** The backing of the page at `iova`, the same whenever asked for; undefined: there is none. */
export type PageProvider = (
  cpu: Cpu,
  iova: Iova,
  request: PageRequest,
) => Routine<PageBacking | undefined>;

/**
 * Maps the faulting pages of `domain` in its smallest page size, as `provide` has them. All
 * that is ever mapped at those addresses is to come from `provide`: a page that is mapped
 * already is left as it is, and the device tries again.
 */
export function mapOnDemand(domain: PagingDomain, provide: PageProvider): PageFaultHandler {
  const pageBytes = domain.pageSizesBytes[0];
  return function* (cpu, group): Routine<PageResponseCode> {
    for (const request of group) {
      const iova = Math.floor(request.iova / pageBytes) * pageBytes;
      const backing = yield* provide(cpu, iova, request);
      if (backing === undefined || !allows(backing.protection, request.access)) return "invalid";
      const { paddr, protection } = backing;
      const status = yield* iommuMap(cpu, domain, iova, paddr, pageBytes, protection);
      if (status !== MapStatus.mapped && status !== MapStatus.exists) return "failure";
    }
    return "success";
  };
}

function allows(protection: number, access: PageAccess): boolean {
  if (access.read && (protection & Protection.read) === 0) return false;
  if (access.write && (protection & Protection.write) === 0) return false;
  if (!access.privileged && (protection & Protection.privileged) !== 0) return false;
  return !access.execute || (protection & Protection.noExecute) === 0;
}
