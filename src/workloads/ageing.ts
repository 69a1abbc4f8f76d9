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

/**
 * Ages what gives the device its addresses: nothing where nothing translates, or no age is given.
 * Throws `IovaAgeError`.
 */
export function ageIovas(
  machine: Pick<Machine, "cpus" | "call">,
  device: DmaDevice,
  age: IovaAge | undefined,
): void {
  const { dma } = device;
  if (dma === undefined || age === undefined) return;
  const ageing = new Ageing(device, dma, age, machine.cpus.length);
  let cpuId = 0;
  while (!ageing.isOver) cpuId = machine.call(cpuId, (cpu) => ageing.run(cpu));
}

class Ageing {
  readonly #device: DmaDevice;
  readonly #dma: DmaDomain;
  readonly #age: IovaAge;
  readonly #cpuCount: number;
  /** First pages and sizes of the ranges in use. */
  readonly #pfns: number[] = [];
  readonly #pages: number[] = [];
  #isPastPeak = false;

  constructor(device: DmaDevice, dma: DmaDomain, age: IovaAge, cpuCount: number) {
    this.#device = device;
    this.#dma = dma;
    this.#age = age;
    this.#cpuCount = cpuCount;
  }

  get isOver(): boolean {
    return this.#isPastPeak && this.#pfns.length === 0;
  }

  /** What one CPU does before the next one's turn; returns which that is. */
  *run(cpu: Cpu): Routine<number> {
    const count = 1 + below(cpu, RUN_MAX);
    const frees = this.#isPastPeak || cpu.random() < FREEING_SHARE;
    for (let index = 0; index < count; index++) {
      if (frees) yield* this.#free(cpu);
      else yield* this.#allocate(cpu);
    }
    this.#isPastPeak ||= this.#pfns.length >= this.#age.ranges;
    return below(cpu, this.#cpuCount);
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
