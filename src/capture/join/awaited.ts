/**
 * Iommu unmaps that are still to come for a dma unmap that was seen. Owns its entries, and sweeps
 * out those that never come because events were lost.
 */

import type { IommuUnmap } from "../events.js";
import { ManyByNumber } from "./mappings.js";
import { type Actor, isWithin, WAIT_NS } from "./slots.js";

/** A mapping whose dma unmap was seen and whose iommu:unmap is still to come. */
export interface Awaited extends Actor {
  readonly timeNs: number;
  /** Where its iommu:map events began, less what was unmapped since. */
  readonly iovas: Set<number>;
}

/** Each CPU awaits one unmap at a time, so that more than this are left-overs. */
const AWAITED_MAX = 4096;

export class AwaitedUnmaps {
  readonly #byIova: ManyByNumber<Awaited> = new ManyByNumber();
  readonly #all: Set<Awaited> = new Set();

  add(awaited: Awaited): void {
    for (const iova of awaited.iovas) this.#byIova.add(iova, awaited);
    this.#all.add(awaited);
    if (this.#all.size < AWAITED_MAX) return;
    for (const old of this.#all) {
      if (old.timeNs + WAIT_NS < awaited.timeNs) this.#drop(old, old.iovas);
    }
  }

  /** Whether an iommu:unmap was awaited, of which then as much is done as it covers. */
  arrive(event: IommuUnmap): boolean {
    const all = this.#byIova.get(event.iova);
    const found = all.find(({ cpu, pid }) => cpu === event.cpu && pid === event.pid) ?? all[0];
    if (found === undefined || found.timeNs + WAIT_NS < event.timeNs) return false;
    this.#drop(
      found,
      [...found.iovas].filter((iova) => isWithin(iova, event)),
    );
    return true;
  }

  #drop(awaited: Awaited, iovas: Iterable<number>): void {
    for (const iova of iovas) {
      awaited.iovas.delete(iova);
      this.#byIova.remove(iova, awaited);
    }
    if (awaited.iovas.size === 0) this.#all.delete(awaited);
  }
}
