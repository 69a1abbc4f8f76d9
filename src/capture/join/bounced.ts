/**
 * Buffers that were bounced (swiotlb) and whose map is still to come: swiotlb_bounced is traced
 * within the call that maps. Owns its entries.
 */

import type { SwiotlbBounced } from "../events.js";
import type { Actor } from "./slots.js";

/** A scatterlist can bounce in many parts; more than this on one CPU are left-overs. */
const BOUNCED_MAX = 1024;

export class BouncedBuffers {
  readonly #byCpu: Map<number, SwiotlbBounced[]> = new Map();

  add(event: SwiotlbBounced): void {
    const list = this.#byCpu.get(event.cpu);
    if (list === undefined) this.#byCpu.set(event.cpu, [event]);
    else if (list.length < BOUNCED_MAX) list.push(event);
    else list.splice(0, list.length, event);
  }

  /** Bytes bounced for a map: those of its address, or all of the device for a scatterlist. */
  take(actor: Actor, device: string, paddr: number | undefined): number {
    const list = this.#byCpu.get(actor.cpu);
    if (list === undefined) return 0;
    let bytes = 0;
    const others = list.filter((one) => {
      const mine =
        one.pid === actor.pid &&
        one.device === device &&
        (paddr === undefined || one.address === paddr);
      if (mine) bytes += one.sizeBytes;
      return !mine;
    });
    if (others.length > 0) this.#byCpu.set(actor.cpu, others);
    else this.#byCpu.delete(actor.cpu);
    return bytes;
  }
}
