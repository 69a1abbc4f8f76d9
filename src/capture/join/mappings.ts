/**
 * The mappings that are live at a moment of a capture, found by what an unmap names: the device
 * and DMA address, the device and physical addresses (dma_unmap_sg), or the IOVA alone. Owns the
 * mappings; what is unmapped is forgotten, so that its size is that of what is live.
 */

import type { DmaDirection } from "../events.js";

export type MappingShape = "single" | "sg" | "coherent" | "resource" | "iommu";

/** One iommu:map. */
export interface Run {
  readonly iova: number;
  readonly paddr: number;
  readonly sizeBytes: number;
}

export interface Mapping {
  readonly id: number;
  /** "" for an iommu:map without a dma event: nothing names its device. */
  readonly device: string;
  readonly shape: MappingShape;
  readonly dmaAddress: number;
  readonly sizeBytes: number;
  readonly direction: DmaDirection;
  /** In the order of the IOVAs as far as they are contiguous; none without iommu events. */
  readonly runs: readonly Run[];
  /** For sg: the physical addresses traced, and how many there were. */
  readonly paddrs: readonly number[];
  readonly fullNents: number;
}

/** Values by number, several under one number in the order in which they came. */
export class ManyByNumber<T> {
  readonly #lists: Map<number, T[]> = new Map();

  add(key: number, value: T): void {
    const list = this.#lists.get(key);
    if (list === undefined) this.#lists.set(key, [value]);
    else list.push(value);
  }

  get(key: number): readonly T[] {
    return this.#lists.get(key) ?? [];
  }

  remove(key: number, value: T): void {
    const list = this.#lists.get(key);
    if (list === undefined) return;
    const at = list.indexOf(value);
    if (at < 0) return;
    if (list.length === 1) this.#lists.delete(key);
    else list.splice(at, 1);
  }
}

interface DeviceTable {
  readonly byDmaAddress: ManyByNumber<Mapping>;
  readonly byPaddr: ManyByNumber<Mapping>;
}

export class MappingTable {
  size = 0;
  readonly #devices: Map<string, DeviceTable> = new Map();
  /** By the IOVA of the first run. */
  readonly #byIova: ManyByNumber<Mapping> = new ManyByNumber();

  add(mapping: Mapping): void {
    const table = this.#table(mapping.device);
    if (mapping.shape === "sg") table.byPaddr.add(mapping.paddrs[0] ?? 0, mapping);
    else table.byDmaAddress.add(mapping.dmaAddress, mapping);
    if (mapping.runs.length > 0) this.#byIova.add(mapping.runs[0].iova, mapping);
    this.size += 1;
  }

  remove(mapping: Mapping): void {
    const table = this.#table(mapping.device);
    if (mapping.shape === "sg") table.byPaddr.remove(mapping.paddrs[0] ?? 0, mapping);
    else table.byDmaAddress.remove(mapping.dmaAddress, mapping);
    if (mapping.runs.length > 0) this.#byIova.remove(mapping.runs[0].iova, mapping);
    this.size -= 1;
  }

  /**
   * The oldest of the right size: without an IOMMU a page may be mapped twice at once, and with
   * one an address can be mapped anew before the event of its last unmap is written.
   */
  byDmaAddress(device: string, dmaAddress: number, sizeBytes: number): Mapping | undefined {
    const candidates = this.#devices.get(device)?.byDmaAddress.get(dmaAddress) ?? [];
    return candidates.find((mapping) => mapping.sizeBytes === sizeBytes) ?? candidates[0];
  }

  byPaddrs(device: string, paddrs: readonly number[]): Mapping | undefined {
    const candidates = this.#devices.get(device)?.byPaddr.get(paddrs[0] ?? 0) ?? [];
    return candidates.find((mapping) => isSameList(mapping, paddrs));
  }

  /** Mappings that nothing but their IOVA names come first. */
  byIova(iova: number): Mapping | undefined {
    const candidates = this.#byIova.get(iova);
    return candidates.find((mapping) => mapping.shape === "iommu") ?? candidates[0];
  }

  #table(device: string): DeviceTable {
    let table = this.#devices.get(device);
    if (table === undefined) {
      table = { byDmaAddress: new ManyByNumber(), byPaddr: new ManyByNumber() };
      this.#devices.set(device, table);
    }
    return table;
  }
}

/** A map event holds the first 128 addresses only, an unmap event all. */
function isSameList(mapping: Mapping, paddrs: readonly number[]): boolean {
  if (mapping.fullNents !== paddrs.length) return false;
  return mapping.paddrs.every((paddr, index) => paddr === paddrs[index]);
}
