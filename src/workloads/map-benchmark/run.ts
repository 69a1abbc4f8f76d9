/**
 * Runs the kernel's DMA map benchmark on a virtual machine (kernel/dma/map_benchmark.c): threads
 * that map a buffer, wait for a simulated transfer, and unmap it, until the time is up.
 *
 * Threads run on CPUs 0, 1, … of their node, one each. More threads than CPUs take turns there,
 * which none of the latencies sees, so a CPU is simulated once.
 *
 * `MapBenchmark` owns the system and the sums. Seconds of a loop that repeats itself are not all
 * simulated unless asked for: it ends when the averages are known, and says how well.
 */

import {
  DMA_MAPPING_ERROR,
  type DmaDevice,
  mapPage,
  mapSg,
  type ScatterList,
  scatterList,
  setDmaMask,
  unmapPage,
  unmapSg,
} from "#dma";
import { type Agent, type Cpu, type Iova, loneCell, type Routine, Work } from "#machine";
import type { Profile } from "#platform";
import { type Ageing, createAgeing, type IovaAge } from "../ageing.js";
import type { Mode } from "../mode.js";
import { ringOf } from "../simulate/simulated-system.js";
import { type NamedMemory, WatchedCpu } from "../simulate/watched-cpu.js";
import { WhyAccounts, type WhyReport } from "../simulate/why.js";
import { createSystem, type System, type SystemOptions } from "../system.js";
import { type MapBenchmarkParameters, MapMode } from "./options.js";
import type { MapBenchmarkResult } from "./output.js";
import { LatencySums } from "./statistics.js";
import { SteadyState } from "./steady-state.js";

export interface MapBenchmarkOptions
  extends Pick<
    SystemOptions,
    "commandQueue" | "invalidation" | "syncCompletion" | "seed" | "iovaDepot"
  > {
  readonly parameters: MapBenchmarkParameters;
  readonly mode: Mode;
  readonly profile: Profile;
  /** Simulates all of the seconds. */
  readonly full?: boolean;
  /** Half of the 95 % interval of an average, relative, at which it is known; 0.02. */
  readonly precision?: number;
  /** Ends after so much virtual time, whether the averages are known or not. */
  readonly simulatedNsMax?: number;
  /** What the device's allocator went through before. */
  readonly iovaAge?: IovaAge;
  /** Accounts for where the time goes, from the first loop that counts on. */
  readonly why?: boolean;
}

export interface MapBenchmarkOutcome extends MapBenchmarkResult {
  readonly loops: number;
  /** Means without the kernel's rounding. */
  readonly mapMeanNs: number;
  readonly unmapMeanNs: number;
  /** Half of the 95 % confidence interval of the means, map and unmap. */
  readonly halfWidthsNs: readonly [number, number];
  /** From the first loop that counts to the end. */
  readonly simulatedNs: number;
  readonly isWhole: boolean;
  /** If asked for. */
  readonly why?: WhyReport;
}

/** A thread got no mapping: the kernel's benchmark ends with ENOMEM. */
export class MapBenchmarkError extends Error {
  override readonly name = "MapBenchmarkError";
  readonly code = "NO_MAPPING";
}

const PAGE_BYTES = 4096;
/** Where the buffers lie: above what firmware keeps, and low enough for small masks. */
const BUFFERS_BASE = 2 ** 24;
const STREAM_ID = 1;

/** A window of the batch means: some loops of each CPU. */
const WINDOW_NS = 100_000;
/** Turns that getting or freeing an address takes about as long as. */
const TURNS_PER_RANGE = 16;
/** What is left out at the start, where all threads begin at once. */
const START_NS = 1_000_000;
const LEAST_NS = 4_000_000;
/** Lazy mode repeats itself with its flush timer, of 10 ms. */
const LAZY_START_NS = 10_000_000;
const LAZY_LEAST_NS = 20_000_000;
/** The averages are known when they are known so well: relative, and in nanoseconds. */
const PRECISION = 0.02;
const PRECISION_NS = 5;

export class MapBenchmark {
  readonly #options: MapBenchmarkOptions;
  readonly #system: System;
  readonly #device: DmaDevice;
  readonly #map = new LatencySums();
  readonly #unmap = new LatencySums();
  readonly #steady = new SteadyState();
  /** What goes before; undefined when it is over. */
  #ageing: Ageing | undefined;
  #beginNs = 0;
  #endNs = Number.POSITIVE_INFINITY;
  /** Loops that begin earlier do not count. */
  #countsFromNs = 0;
  #why: WhyAccounts | undefined;
  #loops = 0;
  #mapNs = 0;
  #unmapNs = 0;
  /** What kthread_should_stop() looks at; set by the controller when the time is up. */
  readonly #stop = loneCell("benchmark stop");

  constructor(options: MapBenchmarkOptions) {
    this.#options = options;
    const { parameters, profile, iovaAge } = options;
    this.#system = this.#createSystem(cpusOf(parameters, profile).last + 1);
    this.#device = this.#system.addDevice("dma_map_benchmark", STREAM_ID).dma;
    setDmaMask(this.#device, parameters.dmaBits);
    this.#ageing = createAgeing(this.#system.machine, this.#device, iovaAge);
    if (this.#ageing === undefined) this.#begin();
  }

  #begin(): void {
    const { parameters, mode, profile, full, simulatedNsMax } = this.#options;
    const { first, last } = cpusOf(parameters, profile);
    const { machine } = this.#system;
    this.#beginNs = machine.nowNs;
    const wantedNs = parameters.seconds * 1e9;
    this.#endNs = this.#beginNs + Math.min(wantedNs, simulatedNsMax ?? wantedNs);
    this.#countsFromNs = this.#beginNs;
    const startNs = mode === "lazy" ? LAZY_START_NS : START_NS;
    if (full !== true) this.#countsFromNs += Math.min(startNs, this.totalNs / 4);
    this.#why?.open(this.#countsFromNs, Number.POSITIVE_INFINITY);
    machine.addAgent("benchmark controller", (agent) => this.#control(agent));
    for (let id = first; id <= last; id++) {
      machine.start(id, (cpu) => this.#thread(cpu, id - first));
    }
  }

  #createSystem(cpus: number): System {
    const { profile } = this.#options;
    if (this.#options.why !== true) return createSystem({ ...this.#options, cpus });
    const accounts = new WhyAccounts();
    this.#why = accounts;
    const memory: NamedMemory[] = [];
    // Half of the nearest transfer is more than any hit, and less than any transfer.
    const transferNsMin = profile.machine.cpu.clusterTransferNs.value / 2;
    const watch = (cpu: Cpu) => new WatchedCpu(cpu, { accounts, memory, transferNsMin });
    const system = createSystem({ ...this.#options, cpus, watch });
    memory.push(ringOf(system, system));
    return system;
  }

  /** Whether the allocator still goes through what it is to have gone through before. */
  get isAgeing(): boolean {
    return this.#ageing !== undefined;
  }

  /** How much is done, 0 to 1, as far as one can tell: of the ageing, then of time or averages. */
  get progress(): number {
    if (this.#ageing !== undefined) return this.#ageing.progress;
    const { nowNs } = this.#system.machine;
    return Math.min(1, Math.max((nowNs - this.#beginNs) / this.totalNs, this.#known(nowNs)));
  }

  /** Virtual time that the benchmark is to last. */
  get totalNs(): number {
    return this.#endNs - this.#beginNs;
  }

  /** Goes on for so many turns of agents; returns whether the benchmark is over. */
  runSome(turnsMax: number): boolean {
    if (this.#ageing !== undefined) {
      if (this.#ageing.runSome(turnsMax / TURNS_PER_RANGE)) {
        this.#ageing = undefined;
        this.#begin();
      }
      return false;
    }
    return this.#system.machine.runSome(turnsMax);
  }

  outcome(): MapBenchmarkOutcome {
    const loops = this.#loops;
    return {
      map: this.#map.summary(),
      unmap: this.#unmap.summary(),
      loops,
      mapMeanNs: this.#mapNs / loops,
      unmapMeanNs: this.#unmapNs / loops,
      halfWidthsNs: this.#steady.halfWidths(),
      simulatedNs: this.#system.machine.nowNs - this.#countsFromNs,
      isWhole: this.#system.machine.nowNs >= this.#endNs,
      ...(this.#why === undefined ? {} : { why: this.#why.report() }),
    };
  }

  /** How much of what it takes to know the averages is there; from 1 on, more changes little. */
  #known(nowNs: number): number {
    const { full, mode, precision = PRECISION } = this.#options;
    if (full === true || this.#loops === 0) return 0;
    const leastNs = mode === "lazy" ? LAZY_LEAST_NS : LEAST_NS;
    const [map, unmap] = this.#steady.halfWidths();
    // Half-widths shrink with the root of the time.
    const share = (halfWidthNs: number, sumNs: number): number =>
      (Math.max(PRECISION_NS, (precision * sumNs) / this.#loops) / halfWidthNs) ** 2;
    const lasted = (nowNs - this.#countsFromNs) / leastNs;
    return Math.min(lasted, share(map, this.#mapNs), share(unmap, this.#unmapNs));
  }

  /** Lets the threads run until the time is up, or the averages are known. */
  *#control(agent: Agent): Routine {
    for (;;) {
      yield* agent.sleepUntil(Math.min(agent.now() + WINDOW_NS, this.#endNs));
      if (agent.now() > this.#countsFromNs) this.#steady.endUnit();
      if (agent.now() >= this.#endNs || this.#known(agent.now()) >= 1) break;
    }
    yield* agent.store(this.#stop, 1);
  }

  *#thread(cpu: Cpu, index: number): Routine {
    const { granule, mapMode, direction, transferNs } = this.#options.parameters;
    // Twice the room, so that the entries of a list are not contiguous.
    const base = BUFFERS_BASE + index * 2 * granule * PAGE_BYTES;
    const isSingle = mapMode === MapMode.single;
    const list = isSingle ? undefined : pagesOf(base, granule);
    while ((yield* cpu.load(this.#stop)) === 0) {
      // The kernel dirties the cache, for devices that do not snoop it.
      if (direction !== FROM_DEVICE) cpu.work(Work.copyKilobyte, (granule * PAGE_BYTES) / 1024);
      const watched = cpu instanceof WatchedCpu ? cpu : undefined;
      const beganNs = cpu.now();
      watched?.enter("map");
      const iova = yield* this.#mapBuffer(cpu, base, list);
      const mapNs = cpu.now() - beganNs;
      watched?.leave();
      if (transferNs > 0) yield* cpu.delay(transferNs);
      const unmapBeganNs = cpu.now();
      watched?.enter("unmap");
      if (list !== undefined) yield* unmapSg(cpu, this.#device, list, this.#direction);
      else yield* unmapPage(cpu, this.#device, iova, granule * PAGE_BYTES, this.#direction);
      watched?.leave();
      this.#count(beganNs, mapNs, cpu.now() - unmapBeganNs);
    }
  }

  *#mapBuffer(cpu: Cpu, base: number, list: ScatterList | undefined): Routine<Iova> {
    const { granule, dmaBits } = this.#options.parameters;
    const device = this.#device;
    const sizeBytes = granule * PAGE_BYTES;
    const iova =
      list === undefined
        ? yield* mapPage(cpu, device, base, sizeBytes, this.#direction)
        : (yield* mapSg(cpu, device, list, this.#direction)) > 0
          ? 0
          : DMA_MAPPING_ERROR;
    if (iova !== DMA_MAPPING_ERROR) return iova;
    throw new MapBenchmarkError(
      `the device got no mapping of ${sizeBytes} bytes with a mask of ${dmaBits} bits; ` +
        "take more bits, fewer threads or a smaller granule",
    );
  }

  /** The kernel's codes are the DMA API's. */
  get #direction(): 0 | 1 | 2 {
    return this.#options.parameters.direction as 0 | 1 | 2;
  }

  #count(beganNs: number, mapNs: number, unmapNs: number): void {
    if (beganNs < this.#countsFromNs) return;
    this.#map.add(mapNs);
    this.#unmap.add(unmapNs);
    this.#steady.add(mapNs, unmapNs);
    this.#loops++;
    this.#mapNs += mapNs;
    this.#unmapNs += unmapNs;
  }
}

const FROM_DEVICE = 2;

/** NUMA nodes of a profile's machine: its sockets, or what it calls so. */
export function nodesOf(profile: Profile): number {
  return Math.ceil(profile.system.cpus.value / profile.machine.cpu.cpusPerSocket.value);
}

/** The CPUs that threads run on. */
function cpusOf({ threads, node }: MapBenchmarkParameters, profile: Profile) {
  const cpus = profile.system.cpus.value;
  const perNode = profile.machine.cpu.cpusPerSocket.value;
  const first = Math.max(0, node) * perNode;
  const end = node < 0 ? cpus : Math.min(cpus, first + perNode);
  return { first, last: Math.min(first + threads, end) - 1 };
}

/** Pages of one list entry each, none behind another. */
function pagesOf(base: number, count: number): ScatterList {
  return scatterList(
    Array.from({ length: count }, (_, index) => ({
      paddr: base + 2 * index * PAGE_BYTES,
      sizeBytes: PAGE_BYTES,
    })),
  );
}
