/**
 * How many buffers a second go through the DMA API where half of the CPUs map and the other half
 * unmap, as tasks submit and interrupts of other CPUs complete: every address is allocated on one
 * CPU and freed on another, so that all of them travel through the IOVA allocator's depot.
 */

import { Direction, DMA_MAPPING_ERROR, type DmaDevice, mapPage, unmapPage } from "#dma";
import type { DepotPolicy } from "#iova";
import { assert, type Cell, type Cpu, FRAME_BYTES, type Routine, wireCell } from "#machine";
import type { Profile } from "#platform";
import { ageIovas } from "./ageing.js";
import type { Mode } from "./mode.js";
import { createSystem } from "./system.js";

export interface HandoverOptions {
  readonly profile: Profile;
  readonly mode: Mode;
  /** An even number: each second CPU unmaps what its neighbour has mapped. */
  readonly cpus: number;
  /** As kernels since 6.7 where not given. */
  readonly iovaDepot?: DepotPolicy;
  /** Ranges in use at once before; see `IovaAge`. */
  readonly ageRanges?: number;
  readonly bufferBytes: number;
  /** Time of a CPU's own work between two maps, on average. */
  readonly pauseNs: number;
  /** Buffers that a CPU has mapped at once at most. */
  readonly depth: number;
  /** What is measured, in slices, after `rampNs` that are not. */
  readonly rampNs: number;
  readonly sliceNs: number;
  readonly slices: number;
  readonly seed?: number;
}

export interface Handover {
  readonly perSecond: number;
  /** The same of each slice. */
  readonly slicesPerSecond: readonly number[];
  /** Addresses that went to and from the allocator's rbtree, per buffer. */
  readonly treeAllocations: number;
  readonly treeFrees: number;
  /** CPUs that were in rbtree and depot, waiting for their locks or holding them, on average. */
  readonly commonCpus: number;
}

/** Buffers lie far from the machine's own frames, each CPU's in a place of its own. */
const BUFFERS_BASE = 2 ** 43;
const CPU_BYTES = 2 ** 30;

export function measureHandover(options: HandoverOptions): Handover {
  const { profile, mode, cpus, iovaDepot, ageRanges, bufferBytes, seed = 1 } = options;
  assert(cpus % 2 === 0, "CPUs come in pairs");
  assert(2 * options.depth * bufferBytes <= CPU_BYTES, "a CPU's buffers fit into its place");
  const depot = iovaDepot === undefined ? {} : { iovaDepot };
  const system = createSystem({ mode, cpus, profile, seed, ...depot });
  const { machine } = system;
  const { dma } = system.addDevice("device0");
  const pages = Math.ceil(bufferBytes / FRAME_BYTES);
  if (ageRanges !== undefined) ageIovas(machine, dma, { ranges: ageRanges, pages });
  const startNs = machine.nowNs + options.rampNs;
  const endNs = startNs + options.slices * options.sliceNs;
  const pairs: Pair[] = [];
  for (let id = 0; id < cpus; id += 2) {
    const pair = new Pair(dma, options, BUFFERS_BASE + id * CPU_BYTES, endNs);
    pairs.push(pair);
    machine.start(id, (cpu) => pair.map(cpu));
    machine.start(id + 1, (cpu) => pair.unmap(cpu));
  }
  const looks: Look[] = [];
  machine.addAgent("observer", function* (agent) {
    for (let slice = 0; slice <= options.slices; slice++) {
      yield* agent.sleepUntil(startNs + slice * options.sliceNs);
      looks.push(look(dma, pairs));
    }
  });
  machine.run();
  machine.advance(Math.max(0, endNs - machine.nowNs));
  return handoverOf(looks, options);
}

/** A CPU that maps and the one that unmaps what it has mapped. */
class Pair {
  done = 0;
  readonly #device: DmaDevice;
  readonly #options: HandoverOptions;
  readonly #buffers: number;
  readonly #endNs: number;
  /** Addresses that are mapped, oldest at `#taken`; a ring of `depth`. */
  readonly #mapped: Float64Array;
  #given = 0;
  #taken = 0;
  readonly #arrived = wireCell("something is mapped");
  readonly #left = wireCell("something was unmapped");

  constructor(device: DmaDevice, options: HandoverOptions, buffers: number, endNs: number) {
    this.#device = device;
    this.#options = options;
    this.#buffers = buffers;
    this.#endNs = endNs;
    this.#mapped = new Float64Array(options.depth);
  }

  *map(cpu: Cpu): Routine {
    const { bufferBytes, depth, pauseNs } = this.#options;
    while (cpu.now() < this.#endNs) {
      if (this.#given - this.#taken === depth) {
        yield* this.#wait(cpu, this.#left);
        continue;
      }
      const slot = this.#given % depth;
      const paddr = this.#buffers + 2 * slot * bufferBytes;
      const iova = yield* mapPage(cpu, this.#device, paddr, bufferBytes, Direction.fromDevice);
      assert(iova !== DMA_MAPPING_ERROR, "there is an address for every buffer");
      this.#mapped[slot] = iova;
      this.#given++;
      cpu.poke(this.#arrived, 1);
      yield* cpu.delay(pauseNs * (0.5 + cpu.random()));
    }
    // The other one may wait for more, in vain.
    cpu.poke(this.#arrived, 1);
  }

  *unmap(cpu: Cpu): Routine {
    const { bufferBytes, depth } = this.#options;
    while (cpu.now() < this.#endNs) {
      if (this.#given === this.#taken) {
        yield* this.#wait(cpu, this.#arrived);
        continue;
      }
      const iova = this.#mapped[this.#taken % depth];
      yield* unmapPage(cpu, this.#device, iova, bufferBytes, Direction.fromDevice);
      this.#taken++;
      this.done++;
      cpu.poke(this.#left, 1);
    }
    cpu.poke(this.#left, 1);
  }

  *#wait(cpu: Cpu, wire: Cell): Routine {
    yield* cpu.idleUntil(wire, isSet);
    cpu.poke(wire, 0);
  }
}

/** Counters at one moment. */
interface Look {
  readonly done: number;
  readonly allocations: number;
  readonly frees: number;
  readonly commonNs: number;
}

function look({ dma }: DmaDevice, pairs: readonly Pair[]): Look {
  const { allocations = 0, frees = 0, busyNs = 0 } = dma?.iovas.common ?? {};
  const done = pairs.reduce((sum, pair) => sum + pair.done, 0);
  return { done, allocations, frees, commonNs: busyNs };
}

function handoverOf(looks: readonly Look[], { slices, sliceNs }: HandoverOptions): Handover {
  const [first, last] = [looks[0], looks[slices]];
  const done = last.done - first.done;
  const rate = (count: number, durationNs: number): number => (count * 1e9) / durationNs;
  return {
    perSecond: rate(done, slices * sliceNs),
    slicesPerSecond: looks
      .slice(1)
      .map((one, slice) => rate(one.done - looks[slice].done, sliceNs)),
    treeAllocations: (last.allocations - first.allocations) / done,
    treeFrees: (last.frees - first.frees) / done,
    commonCpus: (last.commonNs - first.commonNs) / (slices * sliceNs),
  };
}

function isSet(value: number): boolean {
  return value !== 0;
}
