/**
 * When the averages of a simulation are known well enough: the method of batch means. Time is
 * cut into windows; when there are too many, neighbours are joined, so that windows become long
 * against whatever correlates what happens in one with what happens in the next.
 */

const WINDOWS_MAX = 64;
/** Fewer windows say too little about how much they differ. */
const WINDOWS_MIN = 32;
/** Student's t for 95 % and 31 degrees of freedom. */
const T_95 = 2.04;

/** Means of two latencies, by window. */
export class SteadyState {
  /** Length of a window, in units of the first one's. */
  windowUnits = 1;
  readonly #counts: number[] = [];
  readonly #sums: readonly [number[], number[]] = [[], []];
  #units = 0;
  #count = 0;
  readonly #open: [number, number] = [0, 0];

  add(first: number, second: number): void {
    this.#count++;
    this.#open[0] += first;
    this.#open[1] += second;
  }

  /** One unit of time has passed. */
  endUnit(): void {
    this.#units++;
    if (this.#units < this.windowUnits) return;
    this.#counts.push(this.#count);
    this.#sums[0].push(this.#open[0]);
    this.#sums[1].push(this.#open[1]);
    this.#units = 0;
    this.#count = 0;
    this.#open.fill(0);
    if (this.#counts.length < WINDOWS_MAX) return;
    for (const list of [this.#counts, ...this.#sums]) joinNeighbours(list);
    this.windowUnits *= 2;
  }

  /**
   * Half the width of the 95 % confidence interval of each mean, as far as windows are complete;
   * infinite while there are too few, or empty ones.
   */
  halfWidths(): readonly [number, number] {
    const infinite = Number.POSITIVE_INFINITY;
    if (this.#counts.length < WINDOWS_MIN || this.#counts.includes(0)) return [infinite, infinite];
    return [this.#halfWidth(this.#sums[0]), this.#halfWidth(this.#sums[1])];
  }

  #halfWidth(sums: readonly number[]): number {
    const means = sums.map((sum, index) => sum / this.#counts[index]);
    const mean = means.reduce((total, value) => total + value, 0) / means.length;
    const squares = means.reduce((total, value) => total + (value - mean) ** 2, 0);
    return T_95 * Math.sqrt(squares / (means.length - 1) / means.length);
  }
}

function joinNeighbours(list: number[]): void {
  for (let index = 0; index < list.length / 2; index++) {
    list[index] = list[2 * index] + list[2 * index + 1];
  }
  list.length /= 2;
}
