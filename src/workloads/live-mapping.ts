/**
 * One mapping of a replayed capture, from its map to its unmap. The replay owns them and
 * uses them again: a long capture needs as many as are live at once.
 */

import type { DmaDirection } from "#capture";
import type { ScatterList } from "#dma";
import { type Cell, wireCell } from "#machine";

/** What has happened to a mapping, in order; the value of its cell. */
export const MappingState = {
  waiting: 0,
  mapped: 1,
  /** The device has used it, as it did before the captured machine unmapped it. */
  used: 2,
  failed: 3,
} as const;

export interface LiveMapping {
  device: string;
  direction: DmaDirection;
  sizeBytes: number;
  dmaAddress: number;
  /** Scatter lists only. */
  list: ScatterList | undefined;
  readonly state: Cell;
}

export class MappingPool {
  readonly #free: LiveMapping[] = [];

  take(device: string, direction: DmaDirection, sizeBytes: number): LiveMapping {
    const mapping = this.#free.pop() ?? {
      device,
      direction,
      sizeBytes,
      dmaAddress: 0,
      list: undefined,
      state: wireCell("mapping"),
    };
    mapping.device = device;
    mapping.direction = direction;
    mapping.sizeBytes = sizeBytes;
    mapping.state.value = MappingState.waiting;
    return mapping;
  }

  give(mapping: LiveMapping): void {
    mapping.list = undefined;
    this.#free.push(mapping);
  }
}

export function isUsed(state: number): boolean {
  return state === MappingState.used || state === MappingState.failed;
}
