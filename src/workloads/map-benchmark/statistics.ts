/**
 * The benchmark's arithmetic, in integers as the kernel does it (map_benchmark_thread() and
 * do_map_benchmark() in kernel/dma/map_benchmark.c): times are cut to units of 100 ns, the
 * sums have 64 bits, and so do mean and deviation.
 */

/** What the kernel hands to its tool, in units of 100 ns. */
export interface LatencySummary {
  readonly average: number;
  readonly deviation: number;
}

const UNIT_NS = 100;
/** Sums below this are exact, and so are squares of numbers up to its root. */
const EXACT_MAX = 2 ** 52;
const ROOT_MAX = 2 ** 26;

/** The sum and the sum of squares of one kind of latency. */
export class LatencySums {
  #count = 0;
  #sum = 0;
  /** In two parts: what has left the exact range of a number, and the rest. */
  #squaresAbove = 0n;
  #squares = 0;

  add(durationNs: number): void {
    const units = Math.floor(durationNs / UNIT_NS);
    this.#count++;
    this.#sum += units;
    if (units > ROOT_MAX) {
      this.#squaresAbove += BigInt(units) ** 2n;
      return;
    }
    this.#squares += units * units;
    if (this.#squares < EXACT_MAX) return;
    this.#squaresAbove += BigInt(this.#squares);
    this.#squares = 0;
  }

  get count(): number {
    return this.#count;
  }

  /** Zeroes where there was no loop, as in the kernel. */
  summary(): LatencySummary {
    if (this.#count === 0) return { average: 0, deviation: 0 };
    const count = BigInt(this.#count);
    const average = BigInt(this.#sum) / count;
    const squares = this.#squaresAbove + BigInt(this.#squares);
    const variance = squares / count - average * average;
    return { average: Number(average), deviation: integerRoot(variance) };
  }
}

/** floor(sqrt(value)) (kernel: int_sqrt64()). */
export function integerRoot(value: bigint): number {
  let root = BigInt(Math.floor(Math.sqrt(Number(value))));
  while (root * root > value) root--;
  while ((root + 1n) * (root + 1n) <= value) root++;
  return Number(root);
}
