/**
 * Pages for PRP lists: coherent, made as requests first need them and kept for the next ones
 * (as the kernel's NVMe driver keeps them in a dma_pool).
 */

import { allocCoherent, type DmaBuffer, type DmaDevice, freeCoherent } from "#dma";
import { assert, type Cpu, type Routine } from "#machine";
import { NvmeError } from "./errors.js";
import { NVME_PAGE_BYTES } from "./prp.js";

export class ListPages {
  readonly #device: DmaDevice;
  readonly #free: DmaBuffer[] = [];
  #lent = 0;

  constructor(device: DmaDevice) {
    this.#device = device;
  }

  *take(cpu: Cpu): Routine<DmaBuffer> {
    const page = this.#free.pop() ?? (yield* allocCoherent(cpu, this.#device, NVME_PAGE_BYTES));
    if (page === undefined) {
      throw new NvmeError(
        "NO_MAPPING",
        `${this.#device.name}: no memory or no address for a PRP list; finish some requests first`,
      );
    }
    this.#lent++;
    return page;
  }

  /** Takes a page back that the device has read. */
  give(page: DmaBuffer): void {
    this.#lent--;
    this.#free.push(page);
  }

  /** Frees all pages; every one is back. */
  *destroy(cpu: Cpu): Routine {
    assert(this.#lent === 0, "PRP lists go after the requests that use them");
    for (const page of this.#free.splice(0)) yield* freeCoherent(cpu, this.#device, page);
  }
}
