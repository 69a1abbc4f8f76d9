/**
 * The stream table: linear, or of two levels with one PCI bus per level-2 table
 * (kernel: arm_smmu_init_strtab). Level-2 tables come into being, full of entries that
 * abort, when a device on their bus is first seen.
 *
 * `StreamTable` owns the tables' memory.
 */

import {
  deposit,
  L1_DESCRIPTOR_BYTES,
  l1DescriptorAddress,
  l2Index,
  linearSteAddress,
  SPLIT_PCI_BUS,
  STE_BYTES,
  STRTAB_BASE_CFG,
  STRTAB_LINEAR,
  STRTAB_TWO_LEVEL,
  StreamL1,
  setAddress,
  setField,
} from "#arch/smmuv3";
import {
  type Cpu,
  type FrameAllocator,
  hex,
  type PhysicalAddress,
  type Routine,
  type StreamId,
} from "#machine";
import { SmmuV3Error } from "../reports.js";
import { abortSte } from "./entry-formats.js";
import { ENTRY_QUADS } from "./entry-writer.js";

/** Level-1 descriptors at most: 1 MiB of them (STRTAB_MAX_L1_ENTRIES). */
const L1_ENTRIES_LG2_MAX = 17;
/** Span of a full level-2 table: one more than the log2 of its entries. */
const SPAN = SPLIT_PCI_BUS + 1;
const L2_BYTES = STE_BYTES * 2 ** SPLIT_PCI_BUS;

export class StreamTable {
  readonly base: PhysicalAddress;
  /** Value of STRTAB_BASE_CFG. */
  readonly baseConfig: number;
  readonly streamIdBits: number;
  readonly #frames: FrameAllocator;
  readonly #isTwoLevel: boolean;
  /** Level-2 tables by level-1 index. */
  readonly #leaves = new Map<number, PhysicalAddress>();

  private constructor(
    frames: FrameAllocator,
    base: PhysicalAddress,
    streamIdBits: number,
    isTwoLevel: boolean,
  ) {
    this.base = base;
    this.streamIdBits = streamIdBits;
    this.#frames = frames;
    this.#isTwoLevel = isTwoLevel;
    const { LOG2SIZE, SPLIT, FMT } = STRTAB_BASE_CFG;
    this.baseConfig = isTwoLevel
      ? deposit(FMT, STRTAB_TWO_LEVEL) | deposit(SPLIT, SPLIT_PCI_BUS)
      : deposit(FMT, STRTAB_LINEAR);
    this.baseConfig |= deposit(LOG2SIZE, streamIdBits);
  }

  /** An empty table for `streamIdBits`; two-level where the SMMU can and it saves anything. */
  static *create(
    cpu: Cpu,
    frames: FrameAllocator,
    streamIdBits: number,
    twoLevel: boolean,
  ): Routine<StreamTable> {
    const isTwoLevel = twoLevel && streamIdBits > SPLIT_PCI_BUS;
    if (isTwoLevel) {
      const bits = Math.min(streamIdBits, L1_ENTRIES_LG2_MAX + SPLIT_PCI_BUS);
      const l1Bytes = L1_DESCRIPTOR_BYTES * 2 ** (bits - SPLIT_PCI_BUS);
      const base = yield* frames.allocate(cpu, l1Bytes);
      return new StreamTable(frames, base, bits, true);
    }
    const sizeBytes = STE_BYTES * 2 ** streamIdBits;
    const base = yield* frames.allocate(cpu, sizeBytes);
    yield* fillWithAborts(cpu, base, sizeBytes);
    return new StreamTable(frames, base, streamIdBits, false);
  }

  /** Address of the stream's entry; makes the table that it lies in. */
  *entryAddress(cpu: Cpu, streamId: StreamId): Routine<PhysicalAddress> {
    if (streamId >= 2 ** this.streamIdBits) {
      throw new SmmuV3Error(
        "NO_STREAM",
        this.base,
        `StreamID ${hex(streamId)} does not fit the stream table of ${this.streamIdBits} bits; ` +
          "give the device one that does",
      );
    }
    if (!this.#isTwoLevel) return linearSteAddress(this.base, streamId);
    const leaf = yield* this.#leaf(cpu, streamId);
    return leaf + l2Index(streamId, SPLIT_PCI_BUS) * STE_BYTES;
  }

  *#leaf(cpu: Cpu, streamId: StreamId): Routine<PhysicalAddress> {
    const bus = streamId >>> SPLIT_PCI_BUS;
    const known = this.#leaves.get(bus);
    if (known !== undefined) return known;
    const leaf = yield* this.#frames.allocate(cpu, L2_BYTES);
    this.#leaves.set(bus, leaf);
    yield* fillWithAborts(cpu, leaf, L2_BYTES);
    const descriptor = new Uint32Array(2);
    setField(descriptor, 0, StreamL1.Span, SPAN);
    setAddress(descriptor, 0, StreamL1.L2Ptr, leaf);
    // The entries are there before the descriptor says so.
    yield* cpu.fence("device-write");
    const at = l1DescriptorAddress(this.base, streamId, SPLIT_PCI_BUS);
    yield* cpu.write64(at, descriptor[0], descriptor[1]);
    return leaf;
  }
}

function* fillWithAborts(cpu: Cpu, base: PhysicalAddress, sizeBytes: number): Routine {
  const abort = abortSte();
  const entries = new Uint32Array(sizeBytes / 4);
  for (let word = 0; word < entries.length; word += ENTRY_QUADS * 2) entries.set(abort, word);
  yield* cpu.writeBlock(base, new Uint8Array(entries.buffer));
}
