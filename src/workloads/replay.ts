/**
 * Replays the DMA operations of a capture through the whole stack on the timed machine.
 *
 * Each captured CPU becomes a virtual CPU (or the capture is spread over as many as asked
 * for). A CPU performs its maps and unmaps in the captured order; after a map the device
 * uses the mapping, one access to each page of it, and an unmap waits for that, as the
 * captured driver waited for the completion of the request.
 *
 * `replay` owns the system that it builds; the caller owns the capture.
 */

import type { DmaDirection, DmaOperation, MapOperation, Segment } from "#capture";
import {
  Direction,
  type DirectionCode,
  DMA_MAPPING_ERROR,
  mapPage,
  mapSg,
  scatterList,
  unmapPage,
  unmapSg,
} from "#dma";
import { assert, type Cpu, FRAME_BYTES, type Routine, wireCell } from "#machine";
import { CapturedIovas } from "./captured-iovas.js";
import { DeviceQueue, type Piece } from "./device-queue.js";
import { Feed, type Task } from "./feed.js";
import { Histogram } from "./histogram.js";
import { isUsed, type LiveMapping, MappingPool, MappingState } from "./live-mapping.js";
import type { Mode } from "./mode.js";
import { type ReplayLoad, replayLimit, replayLoad } from "./replay-limit.js";
import type { Bottleneck } from "./simulate/bottleneck.js";
import { StreamIds } from "./stream-ids.js";
import type { EarlierMapping, Survey } from "./survey.js";
import {
  createSystem,
  type System,
  type SystemCounters,
  type SystemDevice,
  type SystemOptions,
} from "./system.js";

/** Whose addresses the mappings get: our allocator's, or those in the capture. */
export type IovaSource = "allocated" | "captured";

export type Pace = "captured" | "closed";

export interface ReplayOptions {
  readonly mode: Mode;
  readonly profile: NonNullable<SystemOptions["profile"]>;
  /** Who takes part in the capture, and what it found mapped. */
  readonly survey: Pick<Survey, "cpus" | "devices" | "earlier">;
  /** Spread over this many instead of the captured ones. */
  readonly cpus?: number;
  readonly pace: Pace;
  /** `allocated` by default. With `captured` operations are performed one after the other. */
  readonly iovas?: IovaSource;
  readonly seed?: number;
  readonly onCommand?: SystemOptions["onCommand"];
}

export interface ReplayResult {
  readonly mode: Mode;
  readonly maps: number;
  readonly unmaps: number;
  /** From the first operation to the end of the last, virtual. */
  readonly durationNs: number;
  /** CPU time of all CPUs in the replay, less waiting for work and for the device. */
  readonly busyNs: number;
  /** What kept it from being faster. */
  readonly bottleneck: Bottleneck;
  readonly mapLatency: Histogram;
  readonly unmapLatency: Histogram;
  /** Commands that the SMMU consumed since the first operation, by name. */
  readonly invalidations: Readonly<Record<string, number>>;
  readonly iotlb: { readonly hits: number; readonly misses: number };
  /** Flushes of a whole domain that the flush queues started. */
  readonly flushes: { readonly byFullQueue: number; readonly byTimer: number };
  readonly unmapsOfUnknown: number;
  /** Mappings that the capture never unmapped. */
  readonly liveAtEnd: number;
  readonly failedMaps: number;
  /** Device accesses that faulted although the mapping was live. */
  readonly faults: number;
}

/** Stands for the device of operations that no event names a device for. */
const UNNAMED_DEVICE = "unnamed";

/** Memory of earlier mappings: outside of any captured RAM and of the machine's own frames. */
const EARLIER_BASE = 2 ** 42;

/** A few command fetches: an SMMU has consumed what it was given long before. */
const SETTLE_NS = 10_000;

const DIRECTION: Readonly<Record<DmaDirection, DirectionCode>> = {
  bidirectional: Direction.bidirectional,
  to_device: Direction.toDevice,
  from_device: Direction.fromDevice,
  // The kernel's DMA_NONE is a bug of the caller; the widest permission keeps the replay going.
  none: Direction.bidirectional,
};

/** Performs `operations`, which are in the order of time, in one mode. */
export function replay(operations: Iterable<DmaOperation>, options: ReplayOptions): ReplayResult {
  const run = new Replay(operations, options);
  run.runSome(Number.POSITIVE_INFINITY);
  return run.result();
}

/** A replay under way, for callers that want to do something in between. */
export class Replay {
  readonly #options: ReplayOptions;
  readonly #system: System;
  readonly #feed: Feed;
  readonly #streamIds = new StreamIds();
  readonly #devices = new Map<string, SystemDevice>();
  /** By device and CPU: a device has one queue for each CPU, as NVMe has. */
  readonly #queues = new Map<string, DeviceQueue[]>();
  /** One operation after the other, as captured addresses need it. */
  readonly #inOrder: boolean;
  /** Number of the operation whose turn it is. */
  readonly #turn = wireCell("turn");
  /** By device; empty unless the captured addresses are replayed. */
  readonly #capturedIovas = new Map<string, CapturedIovas>();
  readonly #pool = new MappingPool();
  readonly #mapLatency = new Histogram();
  readonly #unmapLatency = new Histogram();
  #firstCapturedNs: number | undefined;
  readonly #startNs: number;
  readonly #before: SystemCounters;
  readonly #loadBefore: ReplayLoad;
  #lastEndNs = 0;
  /** When the last operation was to begin, at the capture's pace. */
  #lastDueNs = 0;
  #performed = 0;
  #failedMaps = 0;

  constructor(operations: Iterable<DmaOperation>, options: ReplayOptions) {
    this.#options = options;
    const { survey, mode, profile, onCommand } = options;
    const cpus = options.cpus ?? survey.cpus;
    const seed = options.seed ?? 1;
    this.#inOrder = options.iovas === "captured";
    let made: CapturedIovas | undefined;
    this.#system = createSystem({
      mode,
      cpus,
      profile,
      seed,
      ...(onCommand === undefined ? {} : { onCommand }),
      ...(this.#inOrder
        ? { iovaAllocator: ({ granuleBytes }) => (made = new CapturedIovas(granuleBytes)) }
        : {}),
    });
    for (const name of survey.devices) {
      made = undefined;
      this.#addDevice(name);
      if (made !== undefined) this.#capturedIovas.set(name, made);
    }
    // Spread by mapping, so that each is unmapped on the CPU that mapped it.
    const cpuOf =
      cpus === survey.cpus
        ? (operation: DmaOperation) => operation.cpu
        : (operation: DmaOperation) => (operation.id ?? 0) % cpus;
    const earlier = survey.earlier.map((mapping) => this.#mapEarlier(mapping));
    this.#feed = new Feed(cpus, cpuOf, this.#pool, earlier);

    const { machine } = this.#system;
    // Commands of the set-up that nobody waits for are consumed before the counting begins.
    machine.advance(SETTLE_NS);
    this.#before = this.#system.counters();
    this.#loadBefore = replayLoad(this.#system, this.#devices.values());
    this.#startNs = machine.nowNs;
    machine.addAgent("capture", (agent) => this.#feed.run(agent, operations));
    for (const { id } of machine.cpus) machine.start(id, (cpu) => this.#perform(cpu));
  }

  /** Operations performed so far. */
  get performed(): number {
    return this.#performed;
  }

  /** Goes on for that many turns of agents; returns whether the replay has ended. */
  runSome(turnsMax: number): boolean {
    return this.#system.machine.runSome(turnsMax);
  }

  /** What came out; of a replay that has ended. */
  result(): ReplayResult {
    const before = this.#before;
    const after = this.#system.counters();
    const load = replayLoad(this.#system, this.#devices.values());
    const invalidations = difference(after.commands, before.commands);
    const durationNs = Math.max(0, this.#lastEndNs - this.#startNs);
    return {
      mode: this.#options.mode,
      maps: this.#mapLatency.count,
      unmaps: this.#unmapLatency.count,
      durationNs,
      busyNs: load.cpusNs.reduce((sum, ns, id) => sum + ns - this.#loadBefore.cpusNs[id], 0),
      bottleneck: replayLimit(this.#loadBefore, load, {
        durationNs,
        capturedNs: this.#capturedNs(),
        mapNs: this.#mapLatency.sumNs,
        unmapNs: this.#unmapLatency.sumNs,
        syncsPerUnmap: (invalidations["CMD_SYNC"] ?? 0) / Math.max(1, this.#unmapLatency.count),
      }),
      mapLatency: this.#mapLatency,
      unmapLatency: this.#unmapLatency,
      invalidations,
      iotlb: {
        hits: after.iotlbHits - before.iotlbHits,
        misses: after.iotlbMisses - before.iotlbMisses,
      },
      flushes: this.#flushes(),
      unmapsOfUnknown: this.#feed.counts.unmapsOfUnknown,
      liveAtEnd: this.#feed.live.size,
      failedMaps: this.#failedMaps,
      faults: [...this.#queues.values()].flat().reduce((sum, queue) => sum + queue.faults, 0),
    };
  }

  #addDevice(name: string): void {
    const shown = name === "" ? UNNAMED_DEVICE : name;
    this.#devices.set(name, this.#system.addDevice(shown, this.#streamIds.take(name)));
    const { hardware } = this.#devices.get(name) as SystemDevice;
    const { machine } = this.#system;
    const queues = machine.cpus.map(
      ({ id }) => new DeviceQueue(machine, `${shown} queue ${id}`, hardware),
    );
    this.#queues.set(name, queues);
  }

  /** Maps what the captured machine had mapped before; where its memory lay nobody knows. */
  #mapEarlier({ device, cpu, dmaAddress, sizeBytes }: EarlierMapping): LiveMapping {
    const { machine } = this.#system;
    const mapping = this.#pool.take(device, "bidirectional", sizeBytes);
    const paddr = EARLIER_BASE + (dmaAddress % FRAME_BYTES);
    const { dma } = this.#device(device);
    this.#capturedIovas.get(device)?.expect(cpu % machine.cpus.length, dmaAddress, sizeBytes);
    mapping.dmaAddress = machine.call(cpu % machine.cpus.length, (by) =>
      mapPage(by, dma, paddr, sizeBytes, Direction.bidirectional),
    );
    mapping.state.value = MappingState.used;
    return mapping;
  }

  /** The life of a CPU: its operations in order. */
  *#perform(cpu: Cpu): Routine {
    for (;;) {
      const task = yield* this.#feed.next(cpu, cpu.id);
      if (task === undefined) return;
      if (this.#options.pace === "captured") yield* this.#pace(cpu, task);
      if (this.#inOrder) yield* cpu.idleUntil(this.#turn, (turn) => turn === task.order);
      if (task.kind === "map") yield* this.#map(cpu, task.operation, task.mapping);
      else yield* this.#unmap(cpu, task.mapping);
      this.#lastEndNs = Math.max(this.#lastEndNs, cpu.now());
      if (this.#inOrder) cpu.poke(this.#turn, task.order + 1);
      this.#feed.done(cpu);
      this.#performed++;
    }
  }

  *#pace(cpu: Cpu, { operation }: Task): Routine {
    this.#firstCapturedNs ??= operation.timeNs;
    const dueNs = this.#startNs + operation.timeNs - this.#firstCapturedNs;
    this.#lastDueNs = Math.max(this.#lastDueNs, dueNs);
    if (dueNs > cpu.now()) yield* cpu.sleepUntil(dueNs);
  }

  *#map(cpu: Cpu, operation: MapOperation, mapping: LiveMapping): Routine {
    const { dma } = this.#device(operation.device);
    const direction = DIRECTION[operation.direction];
    const { device, sizeBytes } = operation;
    // Operations without a device are of several domains, in which addresses may be the same.
    const iova = device === "" ? undefined : operation.iova;
    this.#capturedIovas.get(device)?.expect(cpu.id, iova, sizeBytes + FRAME_BYTES);
    const beganNs = cpu.now();
    let isMapped: boolean;
    if (operation.segments.length === 1) {
      const { paddr, lengthBytes } = operation.segments[0];
      const address = yield* mapPage(cpu, dma, paddr, lengthBytes, direction);
      mapping.dmaAddress = address;
      isMapped = address !== DMA_MAPPING_ERROR;
    } else {
      mapping.list = scatterList(operation.segments.map(toElement));
      isMapped = (yield* mapSg(cpu, dma, mapping.list, direction)) > 0;
    }
    this.#mapLatency.add(cpu.now() - beganNs);
    if (!isMapped) {
      this.#failedMaps++;
      cpu.poke(mapping.state, MappingState.failed);
      return;
    }
    cpu.poke(mapping.state, MappingState.mapped);
    const queues = this.#queues.get(operation.device) as DeviceQueue[];
    const isWrite = operation.direction !== "to_device";
    queues[cpu.id].submit(cpu, { mapping, pieces: piecesOf(operation, mapping), isWrite });
  }

  *#unmap(cpu: Cpu, mapping: LiveMapping): Routine {
    const state = yield* cpu.idleUntil(mapping.state, isUsed);
    if (state === MappingState.used) {
      const { dma } = this.#device(mapping.device);
      const direction = DIRECTION[mapping.direction];
      const beganNs = cpu.now();
      if (mapping.list !== undefined) yield* unmapSg(cpu, dma, mapping.list, direction);
      else yield* unmapPage(cpu, dma, mapping.dmaAddress, mapping.sizeBytes, direction);
      this.#unmapLatency.add(cpu.now() - beganNs);
    }
    this.#pool.give(mapping);
  }

  #device(name: string): SystemDevice {
    const device = this.#devices.get(name);
    assert(device !== undefined, `the survey found the device ${name}`);
    return device;
  }

  /** How long the capture took for what was performed, when it sets the pace. */
  #capturedNs(): number | undefined {
    if (this.#options.pace !== "captured") return undefined;
    return Math.max(0, this.#lastDueNs - this.#startNs);
  }

  #flushes(): ReplayResult["flushes"] {
    let byFullQueue = 0;
    let byTimer = 0;
    for (const { dma } of this.#devices.values()) {
      byFullQueue += dma.dma?.statistics.flushesByFullQueue ?? 0;
      byTimer += dma.dma?.statistics.flushesByTimer ?? 0;
    }
    return { byFullQueue, byTimer };
  }
}

function toElement({ paddr, lengthBytes }: Segment): { paddr: number; sizeBytes: number } {
  return { paddr, sizeBytes: lengthBytes };
}

/** Where the device finds what was mapped. */
function piecesOf(operation: MapOperation, mapping: LiveMapping): Piece[] {
  const { list } = mapping;
  if (list === undefined) {
    return [{ address: mapping.dmaAddress, sizeBytes: operation.segments[0].lengthBytes }];
  }
  const end = list.elements.findIndex(({ dmaBytes }) => dmaBytes === 0);
  const segments = end < 0 ? list.elements : list.elements.slice(0, end);
  return segments.map(({ dmaAddress, dmaBytes }) => ({ address: dmaAddress, sizeBytes: dmaBytes }));
}

function difference(
  after: Readonly<Record<string, number>>,
  before: Readonly<Record<string, number>>,
): Record<string, number> {
  const entries = Object.entries(after).map(
    ([name, count]) => [name, count - (before[name] ?? 0)] as const,
  );
  return Object.fromEntries(entries.filter(([, count]) => count > 0));
}
