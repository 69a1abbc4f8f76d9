/**
 * A master's table of context descriptors, by SubstreamID (kernel: arm_smmu_alloc_cd_tables(),
 * arm_smmu_alloc_cd_ptr()): linear, or of two levels whose leaves of 1024 descriptors come
 * into being when a SubstreamID in them is first used.
 *
 * `CdTable` owns the memory, which stays once it was needed.
 */

import {
  CD_BYTES,
  CDS_PER_64K_TABLE,
  CdL1,
  L1_DESCRIPTOR_BYTES,
  S1Fmt,
  setAddress,
  setField,
} from "#arch/smmuv3";
import {
  assert,
  type Cpu,
  type FrameAllocator,
  type PhysicalAddress,
  type Routine,
} from "#machine";

const LEAF_BYTES = CDS_PER_64K_TABLE * CD_BYTES;
const LEAF_BITS = Math.log2(CDS_PER_64K_TABLE);

export class CdTable {
  readonly base: PhysicalAddress;
  /** S1Fmt and S1CDMax of the stream table entry. */
  readonly format: number;
  readonly substreamBits: number;
  readonly #frames: FrameAllocator;
  /** Level-2 tables by level-1 index. */
  readonly #leaves = new Map<number, PhysicalAddress>();

  private constructor(
    frames: FrameAllocator,
    base: PhysicalAddress,
    format: number,
    substreamBits: number,
  ) {
    this.#frames = frames;
    this.base = base;
    this.format = format;
    this.substreamBits = substreamBits;
  }

  /** An empty table; of two levels where the SMMU can and one leaf does not hold it all. */
  static *create(
    cpu: Cpu,
    frames: FrameAllocator,
    substreamBits: number,
    twoLevel: boolean,
  ): Routine<CdTable> {
    if (!twoLevel || substreamBits <= LEAF_BITS) {
      const base = yield* frames.allocate(cpu, CD_BYTES * 2 ** substreamBits);
      return new CdTable(frames, base, S1Fmt.linear, substreamBits);
    }
    const l1Bytes = L1_DESCRIPTOR_BYTES * 2 ** (substreamBits - LEAF_BITS);
    const base = yield* frames.allocate(cpu, l1Bytes);
    return new CdTable(frames, base, S1Fmt.twoLevel64K, substreamBits);
  }

  /**
   * Address of the descriptor; makes the leaf that it lies in, and calls `sync` for a level-1
   * descriptor that was invalid, which the SMMU may have cached.
   */
  *ensure(cpu: Cpu, ssid: number, sync: (cpu: Cpu) => Routine): Routine<PhysicalAddress> {
    const known = this.find(ssid);
    if (known !== undefined) return known;
    const leaf = yield* this.#frames.allocate(cpu, LEAF_BYTES);
    const index = ssid >>> LEAF_BITS;
    this.#leaves.set(index, leaf);
    const descriptor = new Uint32Array(2);
    setField(descriptor, 0, CdL1.V, 1);
    setAddress(descriptor, 0, CdL1.L2Ptr, leaf);
    // The empty descriptors are there before the level-1 descriptor leads to them.
    yield* cpu.fence("device-write");
    const at = this.base + index * L1_DESCRIPTOR_BYTES;
    yield* cpu.write64(at, descriptor[0], descriptor[1]);
    yield* sync(cpu);
    return leaf + (ssid % CDS_PER_64K_TABLE) * CD_BYTES;
  }

  /** Address of the descriptor; undefined while its leaf is not there. */
  find(ssid: number): PhysicalAddress | undefined {
    assert(ssid < 2 ** this.substreamBits, "a SubstreamID fits the table");
    if (this.format === S1Fmt.linear) return this.base + ssid * CD_BYTES;
    const leaf = this.#leaves.get(ssid >>> LEAF_BITS);
    return leaf === undefined ? undefined : leaf + (ssid % CDS_PER_64K_TABLE) * CD_BYTES;
  }
}
