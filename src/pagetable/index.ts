/** Page-table formats: map, unmap and walk in memory. */

export {
  type MapFailure,
  type PageTable,
  Protection,
  type TlbHooks,
  type UnmapGather,
} from "./tlb.js";
