/**
 * Brings an allocator of addresses into the state that it gets into after hours of work: tasks have
 * run on every CPU, more ranges have been in use at once than are now, of all sizes; they are in
 * the CPUs' magazines and in the depot, and the tree is in pieces (J. Garry, "iommu/iova: Flush CPU
 * rcache for when a depot fills", kernel list, 2020).
 *
 * Nothing is put there by hand: ranges are allocated on one CPU and freed on another by the
 * allocator's own routines, in virtual time, and everything follows from the machine's seed.
 */

import { allocateIova, type DmaDevice, type DmaDomain } from "#dma";
import { CACHED_PAGES_MAX, NO_IOVA } from "#iova";
import type { Cpu, Machine, Routine } from "#machine";

export interface IovaAge {
  /** Ranges in use at once at the peak; all of them are free at the end. */
  readonly ranges: number;
  /** Pages of what the load maps: half of the ranges are of that size, the others of any. */
  readonly pages: number;
}

/** What a CPU allocates or frees in one go at most: as many as its flush queue has entries. */
const RUN_MAX = 256;
/** Of the runs before the peak, those that free: some ranges live far longer than others. */
const FREEING_SHARE = 0.25;
/** Sizes that the caches keep: 1, 2, 4 … pages. */
const SIZES_LG2 = Math.log2(CACHED_PAGES_MAX) + 1;

/** The device's mask leaves fewer addresses than the age asks for. */
export class IovaAgeError extends Error {
  override readonly name = "IovaAgeError";
  readonly code = "NO_ADDRESS";
}

type AgedMachine = Pick<Machine, "cpus" | "call">;

/**
 * Ages what gives the device its addresses: nothing where nothing translates, or no age is given.
 * Throws `IovaAgeError`.
 */
export function ageIovas(machine: AgedMachine, device: DmaDevice, age: IovaAge | undefined): void {
  const ageing = createAgeing(machine, device, age);
  while (ageing?.runSome(RUN_MAX) === false);
}

/** The same in pieces, for callers that look up in between: undefined where there is nothing to do. */
export function createAgeing(
  machine: AgedMachine,
  device: DmaDevice,
  age: IovaAge | undefined,
): Ageing | undefined {
  const { dma } = device;
  return dma === undefined || age === undefined ? undefined : new Ageing(machine, device, dma, age);
}

export class Ageing {
  readonly #machine: AgedMachine;
  readonly #device: DmaDevice;
  readonly #dma: DmaDomain;
  readonly #age: IovaAge;
  /** First pages and sizes of the ranges in use. */
  readonly #pfns: number[] = [];
  readonly #pages: number[] = [];
  #isPastPeak = false;
  #cpuId = 0;

  constructor(machine: AgedMachine, device: DmaDevice, dma: DmaDomain, age: IovaAge) {
    this.#machine = machine;
    this.#device = device;
    this.#dma = dma;
    this.#age = age;
  }

  /** How much of it is done, 0 to 1. */
  get progress(): number {
    const share = this.#pfns.length / this.#age.ranges / 2;
    return this.#isPastPeak ? 1 - share : share;
  }

  /** Allocates or frees about so many ranges; returns whether it is over. */
  runSome(ranges: number): boolean {
    for (let done = 0; done < ranges && !this.#isOver; done += RUN_MAX) {
      this.#cpuId = this.#machine.call(this.#cpuId, (cpu) => this.#run(cpu));
    }
    return this.#isOver;
  }

  get #isOver(): boolean {
    return this.#isPastPeak && this.#pfns.length === 0;
  }

  /** What one CPU does before the next one's turn; returns which that is. */
  *#run(cpu: Cpu): Routine<number> {
    const count = 1 + below(cpu, RUN_MAX);
    const frees = this.#isPastPeak || cpu.random() < FREEING_SHARE;
    for (let index = 0; index < count; index++) {
      if (frees) yield* this.#free(cpu);
      else yield* this.#allocate(cpu);
    }
    this.#isPastPeak ||= this.#pfns.length >= this.#age.ranges;
    return below(cpu, this.#machine.cpus.length);
  }

  *#allocate(cpu: Cpu): Routine {
    const { ranges, pages: loadPages } = this.#age;
    if (this.#pfns.length >= ranges) return;
    const pages = cpu.random() < 0.5 ? loadPages : 2 ** below(cpu, SIZES_LG2);
    const device = this.#device;
    const pfn = yield* allocateIova(cpu, device, this.#dma, pages, device.maskLast);
    if (pfn === NO_IOVA) {
      throw new IovaAgeError(
        `the device's mask has no room for ${ranges} ranges of up to ` +
          `${Math.max(loadPages, CACHED_PAGES_MAX)} pages at once; ` +
          "take more bits, or a lower age",
      );
    }
    this.#pfns.push(pfn);
    this.#pages.push(pages);
  }

  /** Frees any of the ranges. */
  *#free(cpu: Cpu): Routine {
    const [pfns, pages] = [this.#pfns, this.#pages];
    if (pfns.length === 0) return;
    const index = below(cpu, pfns.length);
    const [pfn, size] = [pfns[index], pages[index]];
    pfns[index] = pfns[pfns.length - 1];
    pages[index] = pages[pages.length - 1];
    pfns.pop();
    pages.pop();
    yield* this.#dma.iovas.free(cpu, pfn, size);
  }
}

function below(cpu: Cpu, limit: number): number {
  return Math.floor(cpu.random() * limit);
}
