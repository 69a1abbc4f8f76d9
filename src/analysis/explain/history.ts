/**
 * The mapping that a fault hit, and what became of it: a capture is read once, operation by
 * operation, and for each fault the mappings at and around its address are kept, a few of each.
 * Owns the mappings that are live, as the join in capture/ does, and no more.
 */

import type { DmaDirection, DmaOperation, MapOperation } from "#capture";
import { requesterIdOf } from "#drivers/pci";
import type { FaultTarget } from "./explained.js";

/** Who did something, and when by the capture's clock. */
export interface Act {
  readonly timeSeconds: number;
  readonly cpu: number;
  readonly pid: number;
  readonly task: string;
}

export interface MappingLife {
  /** "" where the capture does not know it. */
  readonly device: string;
  readonly first: number;
  /** Inclusive. */
  readonly last: number;
  readonly sizeBytes: number;
  readonly direction: DmaDirection;
  readonly shape: MapOperation["shape"];
  readonly mapped: Act;
  /** Undefined while it is mapped. */
  readonly unmapped: Act | undefined;
}

export interface MappingHistory {
  /** Devices of the capture that the fault's stream id may be. */
  readonly devices: readonly string[];
  /** The stream id was taken for a PCI function by its low 16 bits only. */
  readonly isByLowBits: boolean;
  /** The fault's time by the capture's clock; undefined: not known, or not within the capture. */
  readonly timeSeconds: number | undefined;
  /** Mappings that cover the address, latest last, mapped before the fault. */
  readonly covering: readonly MappingLife[];
  /** The first mapping after the fault that covers it. */
  readonly later: MappingLife | undefined;
  /** The nearest mapping that ends before the address; live at the fault, if there was one. */
  readonly left: MappingLife | undefined;
  readonly right: MappingLife | undefined;
  /** A mapping of the device whose memory has the faulting address as its physical address. */
  readonly physical: MappingLife | undefined;
  /** Maps of the device in the capture. */
  readonly maps: number;
}

/** An IOMMU maps whole pages; whoever overruns within the last one is not caught. */
const PAGE_BYTES = 4096;
/** A live neighbour as near as this goes before a nearer one that was unmapped before. */
const NEAR_BYTES = 2 ** 20;

/** Names that a search remembers; a real machine has fewer devices. */
const DEVICES_MAX = 4096;

/** Mappings that are remembered for one fault. */
const COVERING_MAX = 4;

export interface HistoryOptions {
  /** The device, where the user names it. */
  readonly device: string | undefined;
  /** Overrides the log's time. */
  readonly timeSeconds: number | undefined;
}

/** Histories of the faults, in their order. Feed it all operations, then ask for `results`. */
export class HistorySearch {
  readonly #queries: Query[];
  readonly #lives = new Map<number, Life>();
  #firstNs = Infinity;
  #lastNs = -Infinity;

  constructor(faults: readonly FaultTarget[], options: HistoryOptions) {
    this.#queries = faults.map((fault) => new Query(fault, options));
  }

  take(operation: DmaOperation): void {
    const isFirst = this.#firstNs === Infinity;
    this.#firstNs = Math.min(this.#firstNs, operation.timeNs);
    this.#lastNs = Math.max(this.#lastNs, operation.timeNs);
    for (const query of this.#queries) {
      if (!query.isDue(operation.timeNs)) continue;
      // A fault from before the capture cannot be placed in it.
      if (isFirst) query.forgetTime();
      else query.freeze(this.#lives.values());
    }
    if (operation.kind === "map") {
      const life = lifeOf(operation);
      this.#lives.set(operation.id, life);
      for (const query of this.#queries) query.mapped(life, operation);
      return;
    }
    if (operation.id === undefined) return;
    const life = this.#lives.get(operation.id);
    if (life === undefined) return;
    life.unmapped = actOf(operation);
    this.#lives.delete(operation.id);
  }

  results(): MappingHistory[] {
    return this.#queries.map((query) => {
      query.freeze(this.#lives.values());
      return query.result(this.#firstNs, this.#lastNs);
    });
  }
}

/** A mapping whose end may still come. */
type Life = { -readonly [Key in keyof MappingLife]: MappingLife[Key] };

/** A fault and what was found for it so far. */
class Query {
  readonly #fault: FaultTarget;
  readonly #only: string | undefined;
  /** By the capture's clock, as far as it is known. */
  #timeNs: number;
  /** Ours: whether the whole stream id says so. */
  readonly #devices = new Map<string, boolean>();
  /** Whether a device is ours, by its name. */
  readonly #known = new Map<string, boolean>();
  readonly #covering: Life[] = [];
  #later: Life | undefined;
  #left: Life | undefined;
  #right: Life | undefined;
  #nearLeft: Life | undefined;
  #nearRight: Life | undefined;
  #physical: Life | undefined;
  #isFrozen = false;
  #maps = 0;

  constructor(fault: FaultTarget, options: HistoryOptions) {
    this.#fault = fault;
    this.#only = options.device ?? fault.device;
    const seconds = options.timeSeconds ?? fault.timeSeconds;
    this.#timeNs = seconds === undefined ? Infinity : seconds * 1e9;
  }

  isDue(nowNs: number): boolean {
    return !this.#isFrozen && nowNs > this.#timeNs;
  }

  forgetTime(): void {
    this.#timeNs = Infinity;
  }

  /** The time of the fault: what is live now was live then. */
  freeze(live: Iterable<Life>): void {
    if (this.#isFrozen) return;
    this.#isFrozen = true;
    for (const life of live) {
      if (!this.#isOurs(life.device)) continue;
      this.#left = nearer(this.#left, life, this.#leftGap(life), this.#leftGap(this.#left));
      this.#right = nearer(this.#right, life, this.#rightGap(life), this.#rightGap(this.#right));
    }
  }

  mapped(life: Life, operation: MapOperation): void {
    if (!this.#isOurs(life.device)) return;
    this.#maps++;
    const { iova } = this.#fault;
    const page = Math.floor(iova / PAGE_BYTES);
    const isCovering =
      page >= Math.floor(life.first / PAGE_BYTES) && page <= Math.floor(life.last / PAGE_BYTES);
    if (this.#isFrozen) {
      if (isCovering) this.#later ??= life;
      return;
    }
    if (isCovering) {
      this.#covering.push(life);
      if (this.#covering.length > COVERING_MAX) this.#covering.shift();
    }
    this.#nearLeft = nearer(
      this.#nearLeft,
      life,
      this.#leftGap(life),
      this.#leftGap(this.#nearLeft),
    );
    this.#nearRight = nearer(
      this.#nearRight,
      life,
      this.#rightGap(life),
      this.#rightGap(this.#nearRight),
    );
    const isPhysical = operation.segments.some(
      ({ paddr, lengthBytes }) =>
        paddr !== life.first && iova >= paddr && iova < paddr + lengthBytes,
    );
    if (isPhysical) this.#physical = life;
  }

  result(firstNs: number, lastNs: number): MappingHistory {
    const isWithin = this.#timeNs >= firstNs && this.#timeNs <= lastNs;
    return {
      devices: [...this.#devices.keys()],
      isByLowBits: [...this.#devices.values()].includes(false),
      timeSeconds: isWithin ? this.#timeNs / 1e9 : undefined,
      covering: this.#covering,
      later: this.#later,
      left: this.#leftGap(this.#left) <= NEAR_BYTES && isWithin ? this.#left : this.#nearLeft,
      right: this.#rightGap(this.#right) <= NEAR_BYTES && isWithin ? this.#right : this.#nearRight,
      physical: this.#physical,
      maps: this.#maps,
    };
  }

  /** Operations that only iommu events tell of name no device: they may be anybody's. */
  #isOurs(device: string): boolean {
    if (device === "") return true;
    const known = this.#known.get(device);
    if (known !== undefined) return known;
    const isOurs = this.#matches(device);
    if (this.#known.size < DEVICES_MAX) this.#known.set(device, isOurs);
    return isOurs;
  }

  #matches(device: string): boolean {
    if (this.#only !== undefined) {
      if (device !== this.#only) return false;
      this.#devices.set(device, true);
      return true;
    }
    const requesterId = requesterIdOf(device);
    const { streamId } = this.#fault;
    if (requesterId === undefined || streamId === undefined) return false;
    // Firmware may put a segment's or an instance's number above the requester id's 16 bits.
    if (requesterId !== streamId % 2 ** 16) return false;
    this.#devices.set(device, requesterId === streamId);
    return true;
  }

  /** Bytes from the end of a mapping to the fault; Infinity where it does not lie before it. */
  #leftGap(life: Life | undefined): number {
    if (life === undefined || life.last >= this.#fault.iova) return Infinity;
    return this.#fault.iova - life.last;
  }

  #rightGap(life: Life | undefined): number {
    if (life === undefined || life.first <= this.#fault.iova) return Infinity;
    return life.first - this.#fault.iova;
  }
}

/** The nearer of two; of two equally near the later. */
function nearer(
  kept: Life | undefined,
  life: Life,
  gap: number,
  keptGap: number,
): Life | undefined {
  return gap !== Infinity && gap <= keptGap ? life : kept;
}

function lifeOf(operation: MapOperation): Life {
  const { device, dmaAddress, sizeBytes, direction, shape } = operation;
  return {
    device,
    first: dmaAddress,
    last: dmaAddress + Math.max(1, sizeBytes) - 1,
    sizeBytes,
    direction,
    shape,
    mapped: actOf(operation),
    unmapped: undefined,
  };
}

function actOf({ timeNs, cpu, pid, task }: DmaOperation): Act {
  return { timeSeconds: timeNs / 1e9, cpu, pid, task };
}
