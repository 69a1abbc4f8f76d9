/** Seeded pseudo-random numbers (xorshift32 over a mixed seed): machines must replay from a seed. */

export class Random {
  #state: number;

  constructor(seed: number) {
    // Mixing (the finaliser of MurmurHash3) keeps close seeds from giving close streams.
    let mixed = (seed ^ 0x9e3779b9) >>> 0;
    mixed = Math.imul(mixed ^ (mixed >>> 16), 0x85ebca6b);
    mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35);
    this.#state = (mixed ^ (mixed >>> 16)) >>> 0 || 1;
  }

  /** Uniform in [0, 1), 32 bits of resolution. */
  next(): number {
    let state = this.#state;
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    this.#state = state >>> 0;
    return this.#state / 2 ** 32;
  }
}
