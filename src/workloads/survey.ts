/**
 * A first pass over a capture: who takes part and how much there is to do. A replay needs
 * to know before it begins, and its progress bar wants to.
 */

import type { DmaOperation, UnmapOperation } from "#capture";

/** What was mapped before the capture began, as far as its unmap tells. */
export interface EarlierMapping {
  readonly device: string;
  readonly cpu: number;
  readonly dmaAddress: number;
  readonly sizeBytes: number;
}

/**
 * Earlier mappings remembered: a device keeps some thousands of buffers mapped at most. Beyond,
 * the capture has lost its maps, and its unmaps are left out.
 */
const EARLIER_MAX = 65_536;

export class Survey {
  maps = 0;
  unmaps = 0;
  /** Maps whose IOVA the capture does not tell: no iommu event came with them. */
  mapsWithoutIova = 0;
  /** Highest CPU number that did anything, plus one. */
  cpus = 0;
  /** Names in the order of their first operation; "" stands for what no event named. */
  readonly devices = new Set<string>();
  /** In the order of their unmaps. */
  readonly earlier: EarlierMapping[] = [];
  #firstNs: number | undefined;
  #lastNs = 0;

  add(operation: DmaOperation): void {
    if (operation.kind === "map") {
      this.maps++;
      if (operation.iova === undefined) this.mapsWithoutIova++;
    } else {
      this.unmaps++;
      if (operation.id === undefined) this.#addEarlier(operation);
    }
    this.cpus = Math.max(this.cpus, operation.cpu + 1);
    this.devices.add(operation.device);
    this.#firstNs ??= operation.timeNs;
    this.#lastNs = operation.timeNs;
  }

  #addEarlier({ device, cpu, dmaAddress, sizeBytes }: UnmapOperation): void {
    if (dmaAddress === undefined || sizeBytes === 0 || this.earlier.length === EARLIER_MAX) return;
    this.earlier.push({ device, cpu, dmaAddress, sizeBytes });
  }

  /** From the first operation to the last, as captured; 0 without any. */
  get durationNs(): number {
    return this.#firstNs === undefined ? 0 : this.#lastNs - this.#firstNs;
  }
}
