/**
 * Where a search has been: hashes of 64 bits, with the least that it took to get there. The table
 * grows up to a size and may forget, which costs only time. That two of its places have one hash
 * is not to be expected: with four million of them, once in some million searches.
 */

/** At first, and at most: 4 million places of 12 bytes. */
const PLACES_LG2_MIN = 10;
const PLACES_LG2_MAX = 22;

export class Visited {
  #mask = 0;
  #count = 0;
  #lo = new Int32Array(0);
  #hi = new Int32Array(0);
  /** One more than what it took; 0: nothing is remembered here. */
  #cost = new Int32Array(0);

  constructor() {
    this.#resize(1 << PLACES_LG2_MIN);
  }

  /** Whether the search was there for as little before; if not, it is now. */
  wasThere(lo: number, hi: number, cost: number): boolean {
    const at = lo & this.#mask;
    const known = this.#cost[at];
    if (known !== 0 && this.#lo[at] === lo && this.#hi[at] === hi && known <= cost + 1) return true;
    if (known === 0) this.#count++;
    this.#lo[at] = lo;
    this.#hi[at] = hi;
    this.#cost[at] = cost + 1;
    const size = this.#mask + 1;
    if (this.#count > size / 2 && size < 1 << PLACES_LG2_MAX) this.#resize(2 * size);
    return false;
  }

  #resize(size: number): void {
    const [los, his, costs] = [this.#lo, this.#hi, this.#cost];
    this.#mask = size - 1;
    this.#count = 0;
    this.#lo = new Int32Array(size);
    this.#hi = new Int32Array(size);
    this.#cost = new Int32Array(size);
    costs.forEach((cost, at) => {
      if (cost !== 0) this.wasThere(los[at], his[at], cost - 1);
    });
  }
}

/** Mixes all bits of 32 (the end of MurmurHash3, by Austin Appleby). */
export function scrambled(value: number): number {
  let hash = value;
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return hash ^ (hash >>> 16);
}
