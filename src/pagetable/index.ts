/** Page-table formats: map, unmap and walk in memory. */

export type { TableFormat } from "./format.js";
export {
  createLpaeTable,
  type LpaeControls,
  type LpaeOptions,
  type LpaeTable,
} from "./lpae.js";
export { type LpaeGeometry, LpaeStage1Format } from "./lpae-format.js";
export { type LeafMapping, mappings } from "./mappings.js";
export { type PartOfBlock, RadixTable, type RadixTableOptions } from "./radix-table.js";
export {
  type MapFailure,
  type PageTable,
  Protection,
  type TlbHooks,
  type UnmapGather,
} from "./tlb.js";
