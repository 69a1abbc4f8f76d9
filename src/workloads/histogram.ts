/**
 * Latencies in bounded memory: logarithmic buckets, 64 to each power of two, so that any
 * quantile is known within 1/64 (1.6 %) of its value; mean, minimum and maximum are exact.
 */

const BUCKETS_PER_OCTAVE = 64;
/** Up to 2^40 ns, 18 minutes. */
const OCTAVES = 40;

export class Histogram {
  readonly #buckets = new Float64Array(OCTAVES * BUCKETS_PER_OCTAVE + 1);
  #count = 0;
  #sum = 0;
  #max = 0;

  add(valueNs: number): void {
    this.#count++;
    this.#sum += valueNs;
    if (valueNs > this.#max) this.#max = valueNs;
    this.#buckets[bucketOf(valueNs)]++;
  }

  get count(): number {
    return this.#count;
  }

  get sumNs(): number {
    return this.#sum;
  }

  /** 0 when nothing was added. */
  get meanNs(): number {
    return this.#count === 0 ? 0 : this.#sum / this.#count;
  }

  get maxNs(): number {
    return this.#max;
  }

  /** The value that `fraction` (0 to 1) of the values do not exceed; 0 when nothing was added. */
  quantileNs(fraction: number): number {
    const rank = Math.max(1, Math.ceil(fraction * this.#count));
    let seen = 0;
    for (let bucket = 0; bucket < this.#buckets.length; bucket++) {
      seen += this.#buckets[bucket];
      if (seen >= rank) return Math.min(upperBoundOf(bucket), this.#max);
    }
    return this.#max;
  }
}

function bucketOf(valueNs: number): number {
  if (valueNs < 1) return 0;
  const bucket = 1 + Math.floor(Math.log2(valueNs) * BUCKETS_PER_OCTAVE);
  return Math.min(bucket, OCTAVES * BUCKETS_PER_OCTAVE);
}

function upperBoundOf(bucket: number): number {
  return bucket === 0 ? 1 : 2 ** (bucket / BUCKETS_PER_OCTAVE);
}
