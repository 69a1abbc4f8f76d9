/**
 * Arm stage-1 page tables as an SMMU domain uses them: the radix table in the LPAE format,
 * and the values that the context descriptor needs so that hardware walks it.
 */

import {
  GRANULE_4K_LG2,
  type GranuleLg2,
  MAIR_HI,
  MAIR_LO,
  outputSizeCode,
  RGN_NON_CACHEABLE,
  RGN_WRITE_BACK_ALLOCATE,
  SHAREABILITY_INNER,
  SHAREABILITY_OUTER,
  tg0OfGranule,
  txszOf,
} from "#arch/lpae";
import { assert, type Cpu, type FrameAllocator, type Routine } from "#machine";
import { LpaeStage1Format } from "./lpae-format.js";
import { type PartOfBlock, RadixTable } from "./radix-table.js";
import type { TlbHooks, UnmapGather } from "./tlb.js";

/** Fields of the context descriptor, under its names (the kernel's TCR for the lower half). */
export interface LpaeControls {
  readonly t0sz: number;
  readonly tg0: number;
  /** Inner and outer cacheability, and shareability, of the walks. */
  readonly ir0: number;
  readonly or0: number;
  readonly sh0: number;
  readonly ips: number;
  readonly mairLo: number;
  readonly mairHi: number;
}

export interface LpaeOptions<Gather extends UnmapGather> {
  readonly frames: FrameAllocator;
  readonly tlb: TlbHooks<Gather>;
  /** Bits of IOVA: at most 48, or 52 with 64 KiB granules. */
  readonly iasBits: number;
  /** Bits of physical address: one of the sizes that IPS can say. */
  readonly oasBits: number;
  /** Whether walks snoop the CPUs' caches (SMMU_IDR0.COHACC). */
  readonly coherentWalk: boolean;
  readonly unmapPartOfBlock: PartOfBlock;
  /** 4 KiB where not given. */
  readonly granuleLg2?: GranuleLg2;
}

export type LpaeTable<Gather extends UnmapGather = UnmapGather> = RadixTable<Gather, LpaeControls>;

/** An empty table. Throws `OutOfFramesError` when there is no memory for its top. */
export function createLpaeTable<Gather extends UnmapGather>(
  cpu: Cpu,
  options: LpaeOptions<Gather>,
): Routine<LpaeTable<Gather>> {
  const { iasBits, oasBits, coherentWalk, granuleLg2 = GRANULE_4K_LG2 } = options;
  const ips = outputSizeCode(oasBits);
  assert(ips >= 0, "IPS can say the output size");
  const format = new LpaeStage1Format({
    granuleLg2,
    inputBits: iasBits,
    outputBits: oasBits,
    coherentWalk,
  });
  const rgn = coherentWalk ? RGN_WRITE_BACK_ALLOCATE : RGN_NON_CACHEABLE;
  const controls: LpaeControls = {
    t0sz: txszOf(iasBits),
    tg0: tg0OfGranule(granuleLg2),
    ir0: rgn,
    or0: rgn,
    sh0: coherentWalk ? SHAREABILITY_INNER : SHAREABILITY_OUTER,
    ips,
    mairLo: MAIR_LO,
    mairHi: MAIR_HI,
  };
  return RadixTable.create(cpu, format, controls, options);
}
