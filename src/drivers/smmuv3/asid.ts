/** Address space identifiers: the tags by which the TLB tells domains apart. */

/** ASID 0 is never given out, so that a tag of zeros is nobody's (kernel: arm_smmu_asid_xa). */
const ASID_FIRST = 1;

/** The lowest free ASID is taken first. The caller serialises. */
export class AsidAllocator {
  readonly #last: number;
  readonly #used = new Set<number>();

  constructor(bits: number) {
    this.#last = 2 ** bits - 1;
  }

  /** A free ASID; -1 when all are taken. */
  take(): number {
    for (let asid = ASID_FIRST; asid <= this.#last; asid++) {
      if (this.#used.has(asid)) continue;
      this.#used.add(asid);
      return asid;
    }
    return -1;
  }

  /** No TLB may hold entries with it any more. */
  give(asid: number): void {
    this.#used.delete(asid);
  }
}
