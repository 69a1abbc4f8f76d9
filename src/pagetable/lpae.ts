/**
 * Arm page tables as an SMMU domain uses them, stage 1 and stage 2: the radix table in the LPAE
 * format, and the values that the context descriptor, or for stage 2 the stream table entry,
 * needs so that hardware walks it.
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
  stage2Sl0,
  tg0OfGranule,
  txszOf,
} from "#arch/lpae";
import { assert, type Cpu, type FrameAllocator, type Routine } from "#machine";
import { LpaeFormat, type LpaeStage } from "./lpae-format.js";
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

/** Fields of the stream table entry for stage 2, under its names (the kernel's VTCR). */
export interface LpaeStage2Controls {
  readonly t0sz: number;
  /** The level at which walks start, encoded. */
  readonly sl0: number;
  readonly ir0: number;
  readonly or0: number;
  readonly sh0: number;
  readonly tg: number;
  readonly ps: number;
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
export type LpaeStage2Table<Gather extends UnmapGather = UnmapGather> = RadixTable<
  Gather,
  LpaeStage2Controls
>;

/** An empty stage-1 table. Throws `OutOfFramesError` when there is no memory for its top. */
export function createLpaeTable<Gather extends UnmapGather>(
  cpu: Cpu,
  options: LpaeOptions<Gather>,
): Routine<LpaeTable<Gather>> {
  const { iasBits, granuleLg2 = GRANULE_4K_LG2 } = options;
  const { ir0, or0, sh0 } = walkAttributes(options.coherentWalk);
  const controls: LpaeControls = {
    t0sz: txszOf(iasBits),
    tg0: tg0OfGranule(granuleLg2),
    ir0,
    or0,
    sh0,
    ips: sizeCode(options.oasBits),
    mairLo: MAIR_LO,
    mairHi: MAIR_HI,
  };
  return RadixTable.create(cpu, formatOf(1, options), controls, options);
}

/** An empty stage-2 table; `iasBits` are those of intermediate physical addresses. */
export function createLpaeStage2Table<Gather extends UnmapGather>(
  cpu: Cpu,
  options: LpaeOptions<Gather>,
): Routine<LpaeStage2Table<Gather>> {
  const { iasBits, granuleLg2 = GRANULE_4K_LG2 } = options;
  const format = formatOf(2, options);
  const { ir0, or0, sh0 } = walkAttributes(options.coherentWalk);
  const controls: LpaeStage2Controls = {
    t0sz: txszOf(iasBits),
    sl0: stage2Sl0(granuleLg2, format.topLevel),
    ir0,
    or0,
    sh0,
    tg: tg0OfGranule(granuleLg2),
    ps: sizeCode(options.oasBits),
  };
  return RadixTable.create(cpu, format, controls, options);
}

function formatOf<Gather extends UnmapGather>(
  stage: LpaeStage,
  { granuleLg2 = GRANULE_4K_LG2, iasBits, oasBits, coherentWalk }: LpaeOptions<Gather>,
): LpaeFormat {
  const sizes = { inputBits: iasBits, outputBits: oasBits };
  return new LpaeFormat({ stage, granuleLg2, ...sizes, coherentWalk });
}

function walkAttributes(coherentWalk: boolean): { ir0: number; or0: number; sh0: number } {
  const rgn = coherentWalk ? RGN_WRITE_BACK_ALLOCATE : RGN_NON_CACHEABLE;
  return { ir0: rgn, or0: rgn, sh0: coherentWalk ? SHAREABILITY_INNER : SHAREABILITY_OUTER };
}

function sizeCode(oasBits: number): number {
  const code = outputSizeCode(oasBits);
  assert(code >= 0, "IPS and PS can say the output size");
  return code;
}
