/** Allocators of IO virtual addresses. */

export { AllocateFlag, type CommonSpaceCounts, type IovaAllocator, NO_IOVA } from "./allocator.js";
export { IovaDomain, type IovaDomainOptions } from "./iova-domain.js";
export {
  CACHED_PAGES_MAX,
  type DepotPolicy,
  UNBOUNDED_DEPOT,
} from "./magazines.js";
export type { PfnRange } from "./tree.js";
