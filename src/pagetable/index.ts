/** Page-table formats: map, unmap and walk in memory. */

export type { TableFormat } from "./format.js";
export {
  createLpaeStage2Table,
  createLpaeTable,
  type LpaeControls,
  type LpaeOptions,
  type LpaeStage2Controls,
  type LpaeStage2Table,
  type LpaeTable,
} from "./lpae.js";
export { LpaeFormat, type LpaeGeometry, type LpaeStage } from "./lpae-format.js";
export { type LeafMapping, mappings } from "./mappings.js";
export { type PartOfBlock, RadixTable, type RadixTableOptions } from "./radix-table.js";
export {
  type MapFailure,
  type PageTable,
  Protection,
  type TlbHooks,
  type UnmapGather,
} from "./tlb.js";
