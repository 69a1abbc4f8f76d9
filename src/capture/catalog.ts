/**
 * Which events are decoded, by the system and name that the kernel gives them
 * (include/trace/events/{dma,iommu,swiotlb}.h and the print event of trace_marker). Whatever is
 * not here is counted by name and skipped. Owns nothing.
 */

import type { AllocVia, MapVia, SyncFor } from "./events.js";

export type EventShape =
  | { readonly shape: "iommu_map" }
  | { readonly shape: "iommu_unmap" }
  | { readonly shape: "map"; readonly via: MapVia }
  | { readonly shape: "unmap"; readonly via: MapVia }
  | { readonly shape: "map_sg" }
  | { readonly shape: "map_sg_error" }
  | { readonly shape: "unmap_sg" }
  | { readonly shape: "alloc"; readonly via: AllocVia; readonly failed: boolean }
  | { readonly shape: "free"; readonly via: AllocVia }
  | { readonly shape: "sync"; readonly syncFor: SyncFor }
  | { readonly shape: "sync_sg"; readonly syncFor: SyncFor }
  | { readonly shape: "bounced" }
  | { readonly shape: "mark" };

export interface CatalogEntry {
  readonly system: string;
  readonly event: EventShape;
}

const dma = (event: EventShape): CatalogEntry => ({ system: "dma", event });

/** Newer kernels have `dma_map_phys` in place of both `dma_map_page` and `dma_map_resource`. */
export const CATALOG: ReadonlyMap<string, CatalogEntry> = new Map<string, CatalogEntry>([
  ["map", { system: "iommu", event: { shape: "iommu_map" } }],
  ["unmap", { system: "iommu", event: { shape: "iommu_unmap" } }],
  ["dma_map_page", dma({ shape: "map", via: "page" })],
  ["dma_map_phys", dma({ shape: "map", via: "phys" })],
  ["dma_map_resource", dma({ shape: "map", via: "resource" })],
  ["dma_unmap_page", dma({ shape: "unmap", via: "page" })],
  ["dma_unmap_phys", dma({ shape: "unmap", via: "phys" })],
  ["dma_unmap_resource", dma({ shape: "unmap", via: "resource" })],
  ["dma_map_sg", dma({ shape: "map_sg" })],
  ["dma_map_sg_err", dma({ shape: "map_sg_error" })],
  ["dma_unmap_sg", dma({ shape: "unmap_sg" })],
  ["dma_alloc", dma({ shape: "alloc", via: "alloc", failed: false })],
  ["dma_alloc_pages", dma({ shape: "alloc", via: "pages", failed: false })],
  ["dma_alloc_sgt", dma({ shape: "alloc", via: "sgt", failed: false })],
  ["dma_alloc_sgt_err", dma({ shape: "alloc", via: "sgt", failed: true })],
  ["dma_free", dma({ shape: "free", via: "alloc" })],
  ["dma_free_pages", dma({ shape: "free", via: "pages" })],
  ["dma_free_sgt", dma({ shape: "free", via: "sgt" })],
  ["dma_sync_single_for_cpu", dma({ shape: "sync", syncFor: "cpu" })],
  ["dma_sync_single_for_device", dma({ shape: "sync", syncFor: "device" })],
  ["dma_sync_sg_for_cpu", dma({ shape: "sync_sg", syncFor: "cpu" })],
  ["dma_sync_sg_for_device", dma({ shape: "sync_sg", syncFor: "device" })],
  ["swiotlb_bounced", { system: "swiotlb", event: { shape: "bounced" } }],
  ["print", { system: "ftrace", event: { shape: "mark" } }],
]);

/** The entry of an event, if it is one of ours: another system may use the same name. */
export function entryOf(system: string, name: string): CatalogEntry | undefined {
  const entry = CATALOG.get(name);
  return entry !== undefined && entry.system === system ? entry : undefined;
}

/** The name under which an event is counted: bare, unless it would pass for one of ours. */
export function countedName(system: string, name: string): string {
  const entry = CATALOG.get(name);
  return entry === undefined || entry.system === system ? name : `${system}:${name}`;
}
