/**
 * Events to operations: which events tell of the same call, and which map an unmap undoes. Owns
 * the mappings that are live and the events that still wait for their other half, no more.
 *
 * What belongs together (kernel/dma/mapping.c and drivers/iommu/dma-iommu.c):
 * - iommu:map comes before its dma_map_*, dma_alloc_*; a scatterlist has one for each physically
 *   contiguous run. It is by the same CPU and task, and holds the DMA address; an interrupt on
 *   that CPU can put its own events between.
 * - iommu:unmap comes before its dma_unmap_page and _resource, but after its dma_unmap_sg and
 *   dma_free: those are traced at the beginning of the call.
 * - dma_unmap_sg names physical addresses only.
 */

import type {
  CaptureEvent,
  DmaAlloc,
  DmaFree,
  DmaMap,
  DmaMapSg,
  DmaUnmap,
  DmaUnmapSg,
  IommuMap,
  IommuUnmap,
} from "../events.js";
import type {
  DmaOperation,
  MapOperation,
  OperationStatistics,
  Segment,
  UnmapOperation,
} from "../operations.js";
import { type Awaited, AwaitedUnmaps } from "./awaited.js";
import { BouncedBuffers } from "./bounced.js";
import { type Mapping, type MappingShape, MappingTable, type Run } from "./mappings.js";
import { segmentsOfAllocation, segmentsOfSg } from "./segments.js";
import {
  type Actor,
  isWithin,
  makeReady,
  makeVoid,
  PendingSlots,
  SLOTS_MAX,
  type Slot,
  SlotQueue,
  unmapOf,
  WAIT_NS,
} from "./slots.js";

export class OperationJoin {
  readonly #statistics: OperationStatistics;
  readonly #slots = new SlotQueue();
  readonly #maps = new PendingSlots<IommuMap>();
  readonly #unmaps = new PendingSlots<IommuUnmap>();
  readonly #live = new MappingTable();
  readonly #awaited = new AwaitedUnmaps();
  /** By CPU: the unmap of an unknown scatterlist that its iommu:unmap can complete. */
  readonly #held: Map<number, Slot & { state: "held" }> = new Map();
  readonly #bounced = new BouncedBuffers();
  /** Operations that one slot gave more than one of. */
  readonly #ready: DmaOperation[] = [];
  #sawIommu = false;
  #nextId = 0;

  constructor(statistics: OperationStatistics) {
    this.#statistics = statistics;
  }

  take(event: CaptureEvent): void {
    switch (event.kind) {
      case "iommu_map":
        this.#sawIommu = true;
        this.#maps.add(this.#slots.push({ state: "map", timeNs: event.timeNs, event }), event);
        return;
      case "iommu_unmap":
        this.#sawIommu = true;
        this.#iommuUnmap(event);
        return;
      case "dma_map":
        this.#mapOne(event, event.via === "resource" ? "resource" : "single", event.attrs);
        return;
      case "dma_alloc":
        this.#mapOne(event, "coherent", event.attrs);
        return;
      case "dma_map_sg":
        this.#mapSg(event);
        return;
      case "dma_unmap":
        this.#unmapOne(event, event.via === "resource" ? "resource" : "single");
        return;
      case "dma_free":
        this.#unmapOne(event, "coherent");
        return;
      case "dma_unmap_sg":
        this.#unmapSg(event);
        return;
      case "swiotlb_bounced":
        this.#bounced.add(event);
        return;
    }
  }

  /** The next operation that nothing before it holds back any more. */
  give(nowNs: number): DmaOperation | undefined {
    for (;;) {
      const operation = this.#ready.shift();
      if (operation !== undefined) return operation;
      const slot = this.#slots.peek();
      if (slot === undefined) return undefined;
      const waits = slot.state !== "ready" && slot.state !== "void";
      if (waits && slot.timeNs + WAIT_NS >= nowNs && this.#slots.length < SLOTS_MAX) {
        return undefined;
      }
      this.#slots.pop();
      this.#settle(slot);
    }
  }

  #settle(slot: Slot): void {
    switch (slot.state) {
      case "void":
        return;
      case "ready":
        this.#ready.push(slot.operation);
        return;
      case "held":
        if (this.#held.get(slot.operation.cpu) === slot) this.#held.delete(slot.operation.cpu);
        this.#ready.push(slot.operation);
        return;
      case "map":
        this.#maps.drop(slot, slot.event.iova);
        this.#iommuMapAlone(slot.event);
        return;
      case "unmap":
        this.#unmaps.drop(slot, slot.event.iova);
        this.#iommuUnmapAlone(slot.event);
        return;
    }
  }

  #mapOne(event: DmaMap | DmaAlloc, shape: MappingShape, attrs: number): void {
    const { dmaAddress, sizeBytes } = event;
    const runs: Run[] = [];
    this.#claim(dmaAddress, sizeBytes, false, event, runs);
    const segments =
      event.kind === "dma_map"
        ? [{ paddr: event.paddr, lengthBytes: sizeBytes }]
        : segmentsOfAllocation(event, runs);
    const paddr = event.kind === "dma_map" ? event.paddr : undefined;
    this.#map(event, shape, attrs, runs, {
      segments,
      sizeBytes,
      dmaAddress,
      bouncedBytes: this.#bounced.take(event, event.device, paddr),
      estimated: false,
      truncated: false,
      paddrs: [],
      fullNents: 0,
    });
  }

  #mapSg(event: DmaMapSg): void {
    const runs: Run[] = [];
    const last = event.lengths.length - 1;
    for (let index = 0; index <= last; index += 1) {
      const open = index === last && event.fullEnts > event.lengths.length;
      this.#claim(event.dmaAddresses[index], event.lengths[index], open, event, runs);
    }
    const known = segmentsOfSg(event, runs);
    this.#map(event, "sg", event.attrs, runs, {
      ...known,
      sizeBytes: known.segments.reduce((sum, { lengthBytes }) => sum + lengthBytes, 0),
      dmaAddress: event.dmaAddresses[0] ?? 0,
      bouncedBytes: this.#bounced.take(event, event.device, undefined),
      paddrs: event.paddrs,
      fullNents: event.fullNents,
    });
  }

  #map(
    event: DmaMap | DmaAlloc | DmaMapSg,
    shape: MappingShape,
    attrs: number,
    runs: readonly Run[],
    of: {
      readonly segments: readonly Segment[];
      readonly sizeBytes: number;
      readonly dmaAddress: number;
      readonly bouncedBytes: number;
      readonly estimated: boolean;
      readonly truncated: boolean;
      readonly paddrs: readonly number[];
      readonly fullNents: number;
    },
  ): void {
    const { timeNs, cpu, pid, task, device, direction } = event;
    const { sizeBytes, dmaAddress, paddrs, fullNents } = of;
    const mapping: Mapping = {
      id: this.#newId(),
      device,
      shape,
      dmaAddress,
      sizeBytes,
      direction,
      runs,
      paddrs,
      fullNents,
    };
    this.#addLive(mapping);
    const operation: MapOperation = {
      kind: "map",
      id: mapping.id,
      timeNs,
      cpu,
      pid,
      task,
      device,
      shape,
      segments: of.segments,
      sizeBytes,
      direction,
      attrs,
      dmaAddress,
      iova: runs[0]?.iova,
      iommuMaps: runs.length,
      bouncedBytes: of.bouncedBytes,
      lengthsEstimated: of.estimated,
      truncated: of.truncated,
    };
    this.#slots.push({ state: "ready", timeNs, operation });
  }

  /**
   * Take the iommu:map events of a range of DMA addresses, adding to `runs`. `open` goes on
   * beyond the range as far as runs follow without a gap.
   */
  #claim(address: number, sizeBytes: number, open: boolean, actor: Actor, runs: Run[]): void {
    const end = open ? Infinity : address + sizeBytes;
    const before = runs.at(-1);
    const continues =
      before !== undefined && address >= before.iova && address < before.iova + before.sizeBytes;
    let next = continues ? before.iova + before.sizeBytes : address;
    let taken = continues ? undefined : this.#maps.takeAround(address, actor);
    if (!continues && taken === undefined) return;
    for (;;) {
      taken ??= next < end ? this.#maps.takeAt(next, actor) : undefined;
      if (taken === undefined) return;
      const { iova, paddr, sizeBytes: runBytes } = taken.event;
      runs.push({ iova, paddr, sizeBytes: runBytes });
      makeVoid(taken.slot);
      next = iova + runBytes;
      taken = undefined;
    }
  }

  #unmapOne(event: DmaUnmap | DmaFree, shape: MappingShape): void {
    const { device, dmaAddress, sizeBytes } = event;
    const mapping = this.#live.byDmaAddress(device, dmaAddress, sizeBytes);
    const operation = unmapOf(event, device, mapping?.shape ?? shape, mapping);
    operation.dmaAddress = dmaAddress;
    operation.sizeBytes = sizeBytes;
    this.#unmap(event, mapping, operation, this.#unmaps.takeAround(dmaAddress, event));
  }

  #unmapSg(event: DmaUnmapSg): void {
    const mapping = this.#live.byPaddrs(event.device, event.paddrs);
    const operation = unmapOf(event, event.device, "sg", mapping);
    if (mapping === undefined && this.#sawIommu) {
      const slot: Slot & { state: "held" } = { state: "held", timeNs: event.timeNs, operation };
      this.#slots.push(slot);
      this.#held.set(event.cpu, slot);
      this.#countUnmap(operation);
      return;
    }
    const first = mapping?.runs[0];
    const taken = first === undefined ? undefined : this.#unmaps.takeAt(first.iova, event);
    this.#unmap(event, mapping, operation, taken);
  }

  /** An unmap happens at its first event: in the slot of its iommu:unmap if that came before. */
  #unmap(
    actor: Actor & { readonly timeNs: number },
    mapping: Mapping | undefined,
    operation: UnmapOperation,
    taken: { slot: Slot; event: IommuUnmap } | undefined,
  ): void {
    if (taken === undefined) {
      this.#slots.push({ state: "ready", timeNs: actor.timeNs, operation });
    } else {
      makeReady(taken.slot, { ...operation, timeNs: taken.slot.timeNs });
    }
    this.#countUnmap(operation);
    if (mapping === undefined) return;
    this.#forget(mapping);
    const left = new Set<number>();
    for (const { iova } of mapping.runs) {
      if (taken !== undefined && isWithin(iova, taken.event)) continue;
      const other = this.#unmaps.takeAt(iova, actor);
      if (other === undefined) left.add(iova);
      else makeVoid(other.slot);
    }
    if (left.size === 0) return;
    const awaited: Awaited = { cpu: actor.cpu, pid: actor.pid, timeNs: actor.timeNs, iovas: left };
    this.#awaited.add(awaited);
  }

  #iommuUnmap(event: IommuUnmap): void {
    if (this.#awaited.arrive(event)) return;
    const held = this.#held.get(event.cpu);
    if (held?.operation.pid === event.pid && this.#live.byIova(event.iova) === undefined) {
      this.#held.delete(event.cpu);
      held.operation.dmaAddress = event.iova;
      held.operation.sizeBytes = event.unmappedBytes;
      makeReady(held, held.operation);
      return;
    }
    const slot = this.#slots.push({ state: "unmap", timeNs: event.timeNs, event });
    this.#unmaps.add(slot, event);
  }

  #iommuMapAlone(event: IommuMap): void {
    const { timeNs, cpu, pid, task, iova, paddr, sizeBytes } = event;
    const mapping: Mapping = {
      id: this.#newId(),
      device: "",
      shape: "iommu",
      dmaAddress: iova,
      sizeBytes,
      direction: "bidirectional",
      runs: [{ iova, paddr, sizeBytes }],
      paddrs: [],
      fullNents: 0,
    };
    this.#addLive(mapping);
    this.#ready.push({
      kind: "map",
      id: mapping.id,
      timeNs,
      cpu,
      pid,
      task,
      device: "",
      shape: "iommu",
      segments: [{ paddr, lengthBytes: sizeBytes }],
      sizeBytes,
      direction: "bidirectional",
      attrs: 0,
      dmaAddress: iova,
      iova,
      iommuMaps: 1,
      bouncedBytes: 0,
      lengthsEstimated: false,
      truncated: false,
    });
  }

  /** One iommu:unmap can take down several iommu:map that follow each other. */
  #iommuUnmapAlone(event: IommuUnmap): void {
    const end = event.iova + event.unmappedBytes;
    let iova = event.iova;
    while (iova < end) {
      const mapping = this.#live.byIova(iova);
      if (mapping === undefined) break;
      this.#forget(mapping);
      const operation = unmapOf(event, mapping.device, mapping.shape, mapping);
      this.#countUnmap(operation);
      this.#ready.push(operation);
      const mappedBytes = mapping.runs.reduce((sum, run) => sum + run.sizeBytes, 0);
      iova += Math.max(1, mappedBytes);
    }
    if (iova !== event.iova && iova >= end) return;
    const operation = unmapOf(event, "", "iommu", undefined);
    operation.dmaAddress = iova;
    operation.sizeBytes = Math.max(0, end - iova);
    this.#countUnmap(operation);
    this.#ready.push(operation);
  }

  #newId(): number {
    this.#nextId += 1;
    return this.#nextId - 1;
  }

  #addLive(mapping: Mapping): void {
    this.#live.add(mapping);
    const statistics = this.#statistics;
    statistics.maps += 1;
    statistics.live = this.#live.size;
    statistics.liveMax = Math.max(statistics.liveMax, this.#live.size);
  }

  #forget(mapping: Mapping): void {
    this.#live.remove(mapping);
    this.#statistics.live = this.#live.size;
  }

  #countUnmap(operation: UnmapOperation): void {
    this.#statistics.unmaps += 1;
    if (operation.id === undefined) this.#statistics.unmapsOfUnknown += 1;
  }
}
