/**
 * What a stream table entry means for translation, and which ones are illegal (IHI 0070,
 * 5.2 and `SteIllegal` of 5.2.2).
 */

import {
  ENTRY_BYTES,
  type GranuleLg2,
  granuleOfTg0,
  levelSizeLg2,
  outputSizeBits,
  POWERS_OF_TWO,
  stage2StartIsLegal,
  stage2StartLevel,
} from "#arch/lpae";
import {
  CDS_PER_4K_TABLE,
  CDS_PER_64K_TABLE,
  Eats,
  getAddress,
  getField,
  S1Fmt,
  STALL_MODEL_STALL_AND_TERMINATE,
  STALL_MODEL_STALL_ONLY,
  STALL_MODEL_TERMINATE_ONLY,
  Ste,
  StreamWorld,
} from "#arch/smmuv3";
import type { PhysicalAddress } from "#machine";
import { granuleExists, type SmmuV3Capabilities } from "../capabilities.js";
import { El2Tag, type Stage2, type StreamEntry, StreamKind } from "./configuration.js";

/** Config bits: stage 1 translates, stage 2 translates, anything passes at all. */
const CONFIG_STAGE1 = 1;
const CONFIG_STAGE2 = 2;
const CONFIG_PASSES = 4;

const NS_EL1_VMIDS = 0x10000;
/** T0SZ of the largest and of the smallest input that may be asked for (no small tables). */
const T0SZ_MIN = 16;
const T0SZ_MIN_64K = 12;
const T0SZ_MAX = 39;
const TABLE_ALIGNMENT_52_BITS = 64;

/** The entry in the first eight 32-bit words of `words`; `isE2h` is CR2.E2H. */
export function decodeStream(
  words: Uint32Array,
  all: SmmuV3Capabilities,
  isE2h: boolean,
): StreamEntry {
  const config = getField(words, 0, Ste.Config);
  const stage2 = (config & CONFIG_STAGE2) === 0 ? undefined : decodeStage2(words, all);
  const contextsLg2 = all.substreamIdBits === 0 ? 0 : getField(words, 0, Ste.S1CDMax);
  const contextsPerLeafLg2 = contextsLg2 === 0 ? 0 : leafLg2(getField(words, 0, Ste.S1Fmt));
  return {
    valid: true,
    kind: isIllegal(words, all, stage2) ? StreamKind.illegal : kindOf(config),
    vmid: tagOf(words, config, all, isE2h),
    stage2,
    contextTable: contextTable(words, contextsLg2, contextsPerLeafLg2),
    contextsLg2,
    contextsPerLeafLg2,
    defaultSubstream: getField(words, 0, Ste.S1DSS),
    eats: all.ats ? getField(words, 0, Ste.EATS) : Eats.refused,
    forbidsStalls: getField(words, 0, Ste.S1STALLD) === 1,
    autoResponsesHavePasid: getField(words, 0, Ste.PPAR) === 1,
    contexts: new Map(),
    contextLeaves: new Map(),
  };
}

function kindOf(config: number): StreamKind {
  if ((config & CONFIG_PASSES) === 0) return StreamKind.abort;
  if ((config & CONFIG_STAGE1) !== 0) {
    return (config & CONFIG_STAGE2) === 0 ? StreamKind.stage1 : StreamKind.nested;
  }
  return (config & CONFIG_STAGE2) === 0 ? StreamKind.bypass : StreamKind.stage2;
}

/** Reserved format 3 behaves as a linear table. */
function leafLg2(format: number): number {
  if (format === S1Fmt.twoLevel4K) return Math.log2(CDS_PER_4K_TABLE);
  return format === S1Fmt.twoLevel64K ? Math.log2(CDS_PER_64K_TABLE) : 0;
}

/** Tables are aligned to their size; bits below that, which are reserved, do not count. */
function contextTable(words: Uint32Array, lg2: number, perLeafLg2: number): PhysicalAddress {
  const pointer = getAddress(words, 0, Ste.S1ContextPtr);
  const bytesLg2 = perLeafLg2 === 0 ? lg2 + 6 : Math.max(6, lg2 - perLeafLg2 + 3);
  return pointer - (pointer % POWERS_OF_TWO[bytesLg2]);
}

function tagOf(words: Uint32Array, config: number, all: SmmuV3Capabilities, e2h: boolean): number {
  const isStage1Only = (config & CONFIG_STAGE2) === 0;
  if (all.hypervisor && isStage1Only && getField(words, 0, Ste.STRW) === StreamWorld.el2) {
    return e2h ? El2Tag.el2E2h : El2Tag.el2;
  }
  // Without stage 2 there are no VMIDs.
  return all.stage2 ? getField(words, 0, Ste.S2VMID) : 0;
}

function isIllegal(words: Uint32Array, all: SmmuV3Capabilities, stage2?: Stage2): boolean {
  if (getField(words, 0, Ste.V) === 0) return true;
  const config = getField(words, 0, Ste.Config);
  // Without bit 2 everything aborts, whatever the other bits say.
  if ((config & CONFIG_PASSES) === 0 || config === CONFIG_PASSES) return false;
  const hasStage1 = (config & CONFIG_STAGE1) !== 0;
  const hasStage2 = (config & CONFIG_STAGE2) !== 0;
  if (hasStage1 && (!all.stage1 || stage1IsIllegal(words, all, hasStage2))) return true;
  if (hasStage2 && (stage2 === undefined || stage2ControlsAreIllegal(words, all))) return true;
  if (all.ats && atsIsIllegal(words, hasStage1, hasStage2, all)) return true;
  const isEl1 = hasStage2 || !all.hypervisor || !all.stage1 || getField(words, 0, Ste.STRW) === 0;
  const vmidMax = all.vmid16 ? NS_EL1_VMIDS : 0x100;
  return all.stage2 && isEl1 && getField(words, 0, Ste.S2VMID) >= vmidMax;
}

function stage1IsIllegal(words: Uint32Array, all: SmmuV3Capabilities, nested: boolean): boolean {
  // Worlds 1 and 3 are reserved; without EL2, and with stage 2, the field is ignored.
  const world = getField(words, 0, Ste.STRW);
  if (all.hypervisor && !nested && (world & 1) !== 0) return true;
  // Where stalls cannot be chosen they cannot be forbidden.
  const canChoose = all.stallModel === STALL_MODEL_STALL_AND_TERMINATE;
  if (!canChoose && getField(words, 0, Ste.S1STALLD) === 1) return true;
  if (all.substreamIdBits > 0) {
    const contextsLg2 = getField(words, 0, Ste.S1CDMax);
    if (contextsLg2 > all.substreamIdBits) return true;
    const isTwoLevel = leafLg2(getField(words, 0, Ste.S1Fmt)) > 0;
    if (contextsLg2 > 0 && isTwoLevel && !all.twoLevelContextTable) return true;
  }
  // A physical address that does not exist; an intermediate one is stage 2's business (3.4.3).
  const pointer = getAddress(words, 0, Ste.S1ContextPtr);
  return !nested && pointer >= POWERS_OF_TWO[all.outputBits];
}

/** What is held cannot be told an endpoint; only the output of two stages can be split. */
function atsIsIllegal(
  words: Uint32Array,
  hasStage1: boolean,
  hasStage2: boolean,
  { splitStageAts }: SmmuV3Capabilities,
): boolean {
  const eats = getField(words, 0, Ste.EATS);
  const stalls = hasStage2 && getField(words, 0, Ste.S2S) === 1;
  if (eats === Eats.full) return stalls;
  return eats === Eats.splitStage && (stalls || !hasStage1 || !hasStage2 || !splitStageAts);
}

function stage2ControlsAreIllegal(words: Uint32Array, all: SmmuV3Capabilities): boolean {
  if (!all.stage2) return true;
  // Only AArch64 tables (IDR0.TTF), only little-endian ones (IDR0.TTENDIAN).
  if (getField(words, 0, Ste.S2AA64) === 0 || getField(words, 0, Ste.S2ENDI) === 1) return true;
  const stalls = getField(words, 0, Ste.S2S) === 1;
  if (stalls && all.stallModel === STALL_MODEL_TERMINATE_ONLY) return true;
  if (!stalls && all.stallModel === STALL_MODEL_STALL_ONLY) return true;
  // No hardware updates (IDR0.HTTU).
  return getField(words, 0, Ste.S2HA) === 1 || getField(words, 0, Ste.S2HD) === 1;
}

/** Undefined when size, start level, granule and table do not fit together. */
function decodeStage2(words: Uint32Array, all: SmmuV3Capabilities): Stage2 | undefined {
  const granuleLg2 = granuleOfTg0(getField(words, 0, Ste.S2TG));
  if (granuleLg2 === undefined || !granuleExists(all, granuleLg2)) return undefined;
  const t0sz = getField(words, 0, Ste.S2T0SZ);
  const inputBits = 64 - t0sz;
  const t0szMin = granuleLg2 === 16 ? T0SZ_MIN_64K : T0SZ_MIN;
  // Intermediate addresses are as wide as physical ones (3.4: IAS = OAS).
  if (t0sz > T0SZ_MAX || t0sz < t0szMin || inputBits > all.outputBits) return undefined;
  const level = stage2StartLevel(granuleLg2, getField(words, 0, Ste.S2SL0));
  if (level < 0 || !stage2StartIsLegal(granuleLg2, inputBits, level, all.outputBits)) {
    return undefined;
  }
  const outputBits = Math.min(outputSizeBits(getField(words, 0, Ste.S2PS)), all.outputBits);
  const pointer = getAddress(words, 0, Ste.S2TTB);
  // 52-bit addresses are for 64K tables only (IDR5.DS = 0).
  const addressBits = granuleLg2 === 16 ? outputBits : Math.min(outputBits, 48);
  if (pointer >= POWERS_OF_TWO[addressBits]) return undefined;
  const table = alignedStage2Table(granuleLg2, inputBits, level, pointer, outputBits);
  return {
    granuleLg2,
    inputBits,
    startLevel: level,
    table,
    outputBits,
    ignoresAccessFlag: getField(words, 0, Ste.S2AFFD) === 1,
    protectsTableWalks: getField(words, 0, Ste.S2PTW) === 1,
    stalls: getField(words, 0, Ste.S2S) === 1,
    recordsFaults: getField(words, 0, Ste.S2R) === 1,
    // Stage 2 has no choice (5.5).
    abortsFaults: true,
  };
}

/** All concatenated tables together are aligned to their size. */
function alignedStage2Table(
  granuleLg2: GranuleLg2,
  inputBits: number,
  level: number,
  pointer: number,
  outputBits: number,
): PhysicalAddress {
  const entriesLg2 = inputBits - levelSizeLg2(granuleLg2, level);
  const least = outputBits === 52 ? TABLE_ALIGNMENT_52_BITS : ENTRY_BYTES;
  return pointer - (pointer % Math.max(least, ENTRY_BYTES * POWERS_OF_TWO[entriesLg2]));
}
