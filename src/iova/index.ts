/** Allocators of IO virtual addresses. */

export { AllocateFlag, type IovaAllocator, NO_IOVA } from "./allocator.js";
export { IovaDomain, type IovaDomainOptions } from "./iova-domain.js";
export type { PfnRange } from "./tree.js";
