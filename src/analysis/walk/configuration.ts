/**
 * From a StreamID to the translation tables: stream table, context descriptors, and the regimes
 * that they set up (Arm IHI 0070, 3.3, 5.1 to 5.4). Each structure that is read becomes a step.
 */

import {
  bitsPerLevel,
  ENTRY_BYTES,
  granuleOfTg0,
  granuleOfTg1,
  levelSizeLg2,
  outputSizeBits,
  stage2StartLevel,
  startLevel,
  topTableEntries,
} from "#arch/lpae";
import {
  CD_BYTES,
  CDS_PER_4K_TABLE,
  CDS_PER_64K_TABLE,
  Cd,
  CdL1,
  getAddress,
  getField,
  l1DescriptorAddress,
  l2Entries,
  l2Index,
  linearSteAddress,
  S1Dss,
  S1Fmt,
  STE_BYTES,
  Ste,
  SteConfig,
  StreamL1,
  StreamWorld,
} from "#arch/smmuv3";
import type { SmmuView } from "./registers.js";
import type { Regime } from "./tables.js";

/** Config bits: stage 1 translates, stage 2 translates, anything passes at all. */
export const CONFIG_STAGE1 = 1;
export const CONFIG_STAGE2 = 2;
export const CONFIG_PASSES = 4;

/** EL2 without E2H: one half, no privilege levels. */
function isEl2World(ste: Uint32Array, smmu: SmmuView): boolean {
  if (!smmu.hypervisorWorld || smmu.isE2h) return false;
  const isStage1Only = (getField(ste, 0, Ste.Config) & CONFIG_STAGE2) === 0;
  return isStage1Only && getField(ste, 0, Ste.STRW) === StreamWorld.el2;
}

/** Words that matter of a stream table entry or a context descriptor. */
export const STRUCTURE_WORDS = 16;

/** A level-1 stream descriptor's table; undefined when it has no entry for the StreamID. */
export function steAddressOf(l1: Uint32Array, streamId: number, split: number): number | undefined {
  const span = getField(l1, 0, StreamL1.Span);
  // More than the StreamIDs of one descriptor is reserved and counts as invalid.
  const entries = span > split + 1 ? 0 : l2Entries(span);
  const index = l2Index(streamId, split);
  if (index >= entries) return undefined;
  const table = getAddress(l1, 0, StreamL1.L2Ptr);
  return table - (table % (STE_BYTES * entries)) + index * STE_BYTES;
}

/** Where the walk of the stream table begins: its entry, or the level-1 descriptor for it. */
export function firstStreamAddress(smmu: SmmuView, streamId: number): number {
  const { base, isTwoLevel, split } = smmu.streamTable;
  if (!isTwoLevel) return linearSteAddress(base, streamId);
  return l1DescriptorAddress(base, streamId, split);
}

/** What a legal stream table entry sets up. */
export interface StreamSetup {
  readonly config: "abort" | "bypass" | "stage 1" | "stage 2" | "nested";
  readonly contextTable: number;
  readonly contextsLg2: number;
  /** Context descriptors of a second-level table; undefined: the table is linear. */
  readonly contextsPerTable: number | undefined;
  readonly defaultSubstream: number;
  /** The regime has one half and one privilege level. */
  readonly isEl2: boolean;
  readonly stage2: Regime | undefined;
  /** S1STALLD: context descriptors must not ask for stalls. */
  readonly forbidsStalls: boolean;
  readonly recordsStage2Faults: boolean;
  /** S2PTW: tables and descriptors must not lie in device memory. */
  readonly protectsTableWalks: boolean;
}

export function streamSetup(words: Uint32Array, smmu: SmmuView): StreamSetup {
  const config = getField(words, 0, Ste.Config);
  const contextsLg2 = smmu.substreamIdBits === 0 ? 0 : getField(words, 0, Ste.S1CDMax);
  const perTable = contextsLg2 === 0 ? undefined : PER_TABLE[getField(words, 0, Ste.S1Fmt)];
  const hasStage2 = (config & CONFIG_STAGE2) !== 0;
  const tableBytes =
    perTable === undefined ? CD_BYTES * 2 ** contextsLg2 : (8 * 2 ** contextsLg2) / perTable;
  return {
    config: CONFIG_NAMES[config] ?? "abort",
    // Tables are aligned to their size.
    contextTable: alignedTo(getAddress(words, 0, Ste.S1ContextPtr), Math.max(64, tableBytes)),
    contextsLg2,
    contextsPerTable: perTable,
    defaultSubstream: getField(words, 0, Ste.S1DSS),
    isEl2: isEl2World(words, smmu),
    stage2: hasStage2 ? stage2Regime(words, smmu) : undefined,
    forbidsStalls: getField(words, 0, Ste.S1STALLD) === 1,
    recordsStage2Faults: isRecorded(getField(words, 0, Ste.S2R), getField(words, 0, Ste.S2S)),
    protectsTableWalks: getField(words, 0, Ste.S2PTW) === 1,
  };
}

/** Descriptors of a second-level table by S1Fmt; reserved format 3 behaves as a linear table. */
const PER_TABLE: Readonly<Record<number, number>> = {
  [S1Fmt.twoLevel4K]: CDS_PER_4K_TABLE,
  [S1Fmt.twoLevel64K]: CDS_PER_64K_TABLE,
};

/** What stalls is recorded, whatever R says. */
function isRecorded(r: number, s: number): boolean {
  return r === 1 || s === 1;
}

const CONFIG_NAMES: Readonly<Record<number, StreamSetup["config"]>> = {
  [SteConfig.bypass]: "bypass",
  [SteConfig.stage1]: "stage 1",
  [SteConfig.stage2]: "stage 2",
  [SteConfig.nested]: "nested",
};

/** Undefined when its codes are reserved: the entry is illegal then. */
function stage2Regime(words: Uint32Array, smmu: SmmuView): Regime | undefined {
  const granuleLg2 = granuleOfTg0(getField(words, 0, Ste.S2TG));
  if (granuleLg2 === undefined) return undefined;
  const start = stage2StartLevel(granuleLg2, getField(words, 0, Ste.S2SL0));
  if (start < 0) return undefined;
  const inputBits = 64 - getField(words, 0, Ste.S2T0SZ);
  const entries = 2 ** Math.max(0, inputBits - levelSizeLg2(granuleLg2, start));
  const outputBits = Math.min(outputSizeBits(getField(words, 0, Ste.S2PS)), smmu.outputBits);
  return {
    stage: 2,
    granuleLg2,
    inputBits,
    startLevel: start,
    table: alignedTable(getAddress(words, 0, Ste.S2TTB), entries, outputBits),
    outputBits,
    ignoresTableAttributes: true,
    ignoresAccessFlag: getField(words, 0, Ste.S2AFFD) === 1,
  };
}

/** Which context descriptor a transaction uses, or what happens instead. */
export type ContextChoice =
  | { readonly index: number }
  | { readonly bypass: string }
  | { readonly event: "F_STREAM_DISABLED" | "C_BAD_SUBSTREAMID"; readonly why: string };

export function chooseContext(setup: StreamSetup, substreamId: number | undefined): ContextChoice {
  const { contextsLg2, defaultSubstream } = setup;
  if (substreamId === undefined) {
    if (contextsLg2 === 0 || defaultSubstream === S1Dss.substream0) return { index: 0 };
    if (defaultSubstream === S1Dss.bypass) {
      return { bypass: "traffic without a SubstreamID bypasses stage 1 (S1DSS = 1)" };
    }
    // The reserved value 3 behaves as 0.
    const why = "traffic without a SubstreamID is terminated (S1DSS = 0)";
    return { event: "F_STREAM_DISABLED", why };
  }
  const bad = (why: string): ContextChoice => ({ event: "C_BAD_SUBSTREAMID", why });
  if (contextsLg2 === 0) return bad("the stream has no substreams (S1CDMax = 0)");
  if (substreamId >= 2 ** contextsLg2) {
    return bad(`SubstreamID ${substreamId} is not below 2^S1CDMax = ${2 ** contextsLg2}`);
  }
  if (substreamId === 0 && defaultSubstream === S1Dss.substream0) {
    const why = "SubstreamID 0 is that of traffic without one (S1DSS = 2)";
    return { event: "F_STREAM_DISABLED", why };
  }
  return { index: substreamId };
}

/** Address of the level-1 descriptor for context `index` of a two-level table. */
export function contextL1Address(setup: StreamSetup, index: number): number {
  return setup.contextTable + Math.floor(index / (setup.contextsPerTable ?? 1)) * 8;
}

/** A second-level table's address; undefined where a level-1 descriptor names none (3.4.3). */
export function contextLeafTable(
  setup: StreamSetup,
  l1: Uint32Array,
  smmu: SmmuView,
): number | undefined {
  if (getField(l1, 0, CdL1.V) === 0) return undefined;
  const pointer = getAddress(l1, 0, CdL1.L2Ptr);
  // An intermediate address is stage 2's business.
  if (setup.stage2 === undefined && pointer >= 2 ** smmu.outputBits) return undefined;
  return alignedTo(pointer, (setup.contextsPerTable ?? 1) * CD_BYTES);
}

/** Address of context descriptor `index` within `table`. */
export function contextAddress(setup: StreamSetup, table: number, index: number): number {
  return table + (index % (setup.contextsPerTable ?? 2 ** 20)) * CD_BYTES;
}

/** What a legal context descriptor sets up. */
export interface ContextSetup {
  readonly asid: number;
  /** Undefined: no walks in this half. */
  readonly lower: Regime | undefined;
  readonly upper: Regime | undefined;
  readonly recordsFaults: boolean;
  readonly writableIsNotExecutable: boolean;
  readonly privilegedAccessNever: boolean;
  /** MAIR, by byte. */
  readonly memoryAttributes: readonly number[];
}

export function contextSetup(words: Uint32Array, isEl2: boolean, smmu: SmmuView): ContextSetup {
  const outputBits = Math.min(outputSizeBits(getField(words, 0, Cd.IPS)), smmu.outputBits);
  const flag = (name: "EPD0" | "EPD1" | "HAD0" | "HAD1" | "AFFD" | "WXN" | "PAN"): boolean =>
    getField(words, 0, Cd[name]) === 1;
  const regimeOf = (
    isDisabled: boolean,
    granuleLg2: Regime["granuleLg2"] | undefined,
    txsz: number,
    ttb: number,
    ignoresTableAttributes: boolean,
  ): Regime | undefined => {
    if (isDisabled || granuleLg2 === undefined) return undefined;
    const inputBits = 64 - txsz;
    return {
      stage: 1,
      granuleLg2,
      inputBits,
      startLevel: startLevel(granuleLg2, inputBits),
      table: alignedTable(ttb, topTableEntries(granuleLg2, inputBits), outputBits),
      outputBits,
      ignoresTableAttributes,
      ignoresAccessFlag: flag("AFFD"),
    };
  };
  const tg0 = granuleOfTg0(getField(words, 0, Cd.TG0));
  const tg1 = granuleOfTg1(getField(words, 0, Cd.TG1));
  const t0sz = getField(words, 0, Cd.T0SZ);
  const t1sz = getField(words, 0, Cd.T1SZ);
  const mair = new Uint8Array(Uint32Array.of(words[6], words[7]).buffer);
  return {
    asid: getField(words, 0, Cd.ASID) & (smmu.asid16 ? 0xffff : 0xff),
    // EPD0 and EPD1 are ignored in EL2; TTB1 does not exist there.
    lower: regimeOf(!isEl2 && flag("EPD0"), tg0, t0sz, getAddress(words, 0, Cd.TTB0), flag("HAD0")),
    upper: regimeOf(isEl2 || flag("EPD1"), tg1, t1sz, getAddress(words, 0, Cd.TTB1), flag("HAD1")),
    recordsFaults: isRecorded(getField(words, 0, Cd.R), getField(words, 0, Cd.S)),
    writableIsNotExecutable: flag("WXN"),
    privilegedAccessNever: flag("PAN"),
    memoryAttributes: [...mair],
  };
}

/** A translation table is aligned to itself, with 52-bit addresses at least to 64 bytes. */
function alignedTable(address: number, entries: number, outputBits: number): number {
  return alignedTo(address, Math.max(outputBits === 52 ? 64 : ENTRY_BYTES, entries * ENTRY_BYTES));
}

/** Lower bits of a base do not count. */
function alignedTo(address: number, bytes: number): number {
  return address - (address % bytes);
}

/** Entries of the first table of a regime. */
export function firstTableEntries(regime: Regime): number {
  const top = regime.inputBits - levelSizeLg2(regime.granuleLg2, regime.startLevel);
  return 2 ** Math.max(0, Math.min(top, bitsPerLevel(regime.granuleLg2) + 4));
}
