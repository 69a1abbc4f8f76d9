/**
 * The operations on their way out, in the order of time. An iommu event takes a slot as it comes;
 * what it belongs to is known later, and slots behind it wait. Owns the slots.
 */

import type { DmaFree, DmaUnmap, DmaUnmapSg, IommuMap, IommuUnmap } from "../events.js";
import type { DmaOperation, UnmapOperation } from "../operations.js";
import { ManyByNumber, type Mapping, type MappingShape } from "./mappings.js";

/** An unmap whose address and size a later event may complete. */
export interface UnmapInMaking extends UnmapOperation {
  dmaAddress: number | undefined;
  sizeBytes: number;
}

export type Slot =
  | { state: "ready"; timeNs: number; operation: DmaOperation }
  | { state: "void"; timeNs: number }
  /** An iommu event without its dma event so far. */
  | { state: "map"; timeNs: number; event: IommuMap }
  | { state: "unmap"; timeNs: number; event: IommuUnmap }
  /** An unmap of something unknown, that the iommu:unmap behind it can say more about. */
  | { state: "held"; timeNs: number; operation: UnmapInMaking };

/**
 * How long an iommu event waits for its dma event. The two are a microsecond apart, unless the
 * task is preempted or the virtual CPU is taken off its processor in between: in emulated
 * machines that takes tens of milliseconds. Longer costs memory where nothing ever comes.
 */
export const WAIT_NS = 250_000_000;

/** Where times are not nanoseconds the wait could be endless: never hold more than this. */
export const SLOTS_MAX = 65_536;

/** Whether an IOVA is in the range of an unmap. */
export function isWithin(iova: number, range: IommuUnmap): boolean {
  return iova >= range.iova && iova < range.iova + range.sizeBytes;
}

/** Slots before the first are cut off when there are this many. */
const COMPACT_AT = 4096;

export class SlotQueue {
  #slots: Slot[] = [];
  #first = 0;

  get length(): number {
    return this.#slots.length - this.#first;
  }

  push(slot: Slot): Slot {
    this.#slots.push(slot);
    return slot;
  }

  peek(): Slot | undefined {
    return this.#slots[this.#first];
  }

  pop(): void {
    this.#first += 1;
    if (this.#first < COMPACT_AT || this.#first < this.#slots.length / 2) return;
    this.#slots = this.#slots.slice(this.#first);
    this.#first = 0;
  }
}

/**
 * Granules of IOMMU page tables: an iommu:map begins at the granule in which the DMA address of
 * its dma event lies.
 */
const GRANULES_BYTES: readonly number[] = [4096, 16_384, 65_536];

/** Who did something: the dma event of an iommu event is by the same CPU and task. */
export interface Actor {
  readonly cpu: number;
  readonly pid: number;
}

/** Slots of iommu events whose dma event is missing, by IOVA. */
export class PendingSlots<E extends IommuMap | IommuUnmap> {
  readonly #byIova: ManyByNumber<{ slot: Slot; event: E }> = new ManyByNumber();

  add(slot: Slot, event: E): void {
    this.#byIova.add(event.iova, { slot, event });
  }

  /** The newest that this actor made at exactly this IOVA: taken out, and its slot returned. */
  takeAt(iova: number, actor: Actor): { slot: Slot; event: E } | undefined {
    const all = this.#byIova.get(iova);
    const found = newest(all, actor, true) ?? newest(all, actor, false);
    if (found !== undefined) this.#byIova.remove(iova, found);
    return found;
  }

  /** The same for an address anywhere in the first granule. */
  takeAround(address: number, actor: Actor): { slot: Slot; event: E } | undefined {
    let last = -1;
    for (const granuleBytes of GRANULES_BYTES) {
      const iova = address - (address % granuleBytes);
      if (iova === last) continue;
      last = iova;
      const candidates = this.#byIova.get(iova);
      if (candidates.some(({ event }) => address < iova + event.sizeBytes)) {
        const found = this.takeAt(iova, actor);
        if (found !== undefined) return found;
      }
    }
    return undefined;
  }

  drop(slot: Slot, iova: number): void {
    const found = this.#byIova.get(iova).find((candidate) => candidate.slot === slot);
    if (found !== undefined) this.#byIova.remove(iova, found);
  }
}

/** A task may have moved to another CPU in between; the idle tasks all have pid 0. */
function newest<P extends { event: Actor }>(
  candidates: readonly P[],
  { cpu, pid }: Actor,
  sameCpu: boolean,
): P | undefined {
  return candidates.findLast(
    ({ event }) => event.pid === pid && (sameCpu ? event.cpu === cpu : pid !== 0),
  );
}

/** The unmap that an event tells of, of a mapping if it is known. */
export function unmapOf(
  event: DmaUnmap | DmaFree | DmaUnmapSg | IommuUnmap,
  device: string,
  shape: MappingShape,
  mapping: Mapping | undefined,
): UnmapInMaking {
  const { timeNs, cpu, pid, task } = event;
  return {
    kind: "unmap",
    id: mapping?.id,
    timeNs,
    cpu,
    pid,
    task,
    device,
    shape,
    dmaAddress: mapping?.dmaAddress,
    sizeBytes: mapping?.sizeBytes ?? 0,
  };
}

export function makeVoid(slot: Slot): void {
  slot.state = "void";
}

export function makeReady(slot: Slot, operation: DmaOperation): void {
  Object.assign(slot, { state: "ready", operation });
}
