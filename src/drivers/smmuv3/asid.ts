/** ASIDs and VMIDs: the tags by which the TLB tells domains apart. */

/** 0 is never given out, so that a tag of zeros is nobody's (kernel: arm_smmu_asid_xa). */
const TAG_FIRST = 1;

/** The lowest free tag is taken first. The caller serialises. */
export class TagAllocator {
  readonly #used = new Set<number>();

  /** A free tag of at most `bits` bits; -1 when all are taken. */
  take(bits: number): number {
    const last = 2 ** bits - 1;
    for (let tag = TAG_FIRST; tag <= last; tag++) {
      if (this.#used.has(tag)) continue;
      this.#used.add(tag);
      return tag;
    }
    return -1;
  }

  /** No TLB may hold entries with it any more. */
  give(tag: number): void {
    this.#used.delete(tag);
  }
}
