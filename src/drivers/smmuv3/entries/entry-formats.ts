/**
 * Which bits of a stream table entry and of a context descriptor the SMMU looks at, and the
 * entries that the driver builds (kernel: arm_smmu_get_ste_used, arm_smmu_get_cd_used and the
 * arm_smmu_make_* functions; Arm IHI 0070, 5.2 and 5.4).
 */

import {
  type AnyField,
  CD_FETCH_WRITE_BACK,
  Cd,
  Eats,
  type Field,
  fieldMask,
  getField,
  S1Dss,
  SHCFG_USE_INCOMING,
  Ste,
  SteConfig,
  StreamWorld,
  setAddress,
  setField,
} from "#arch/smmuv3";
import type { PhysicalAddress } from "#machine";
import type { LpaeControls, LpaeStage2Controls } from "#pagetable";
import type { CdTable } from "./cd-table.js";
import { ENTRY_WORDS, type EntryFormat } from "./entry-writer.js";

/** Bits of Config. */
const CONFIG_STAGE1 = 1;
const CONFIG_STAGE2 = 2;
/** S1CSH: inner shareable. */
const INNER_SHAREABLE = 3;

const STE_ALWAYS: readonly AnyField[] = [Ste.V];
const STE_STAGE1: readonly AnyField[] = [
  Ste.S1Fmt,
  Ste.S1ContextPtr,
  Ste.S1CDMax,
  Ste.S1DSS,
  Ste.S1CIR,
  Ste.S1COR,
  Ste.S1CSH,
  Ste.S1STALLD,
  Ste.STRW,
  Ste.EATS,
  Ste.MEV,
  Ste.S2VMID,
];
const STE_STAGE2: readonly AnyField[] = [
  Ste.S2FWB,
  Ste.EATS,
  Ste.SHCFG,
  Ste.MEV,
  Ste.S2VMID,
  Ste.S2T0SZ,
  Ste.S2SL0,
  Ste.S2IR0,
  Ste.S2OR0,
  Ste.S2SH0,
  Ste.S2TG,
  Ste.S2PS,
  Ste.S2AA64,
  Ste.S2ENDI,
  Ste.S2PTW,
  Ste.S2S,
  Ste.S2R,
  Ste.S2TTB,
];

export const STE_FORMAT: EntryFormat = {
  name: "stream table entry",
  used(ste, out) {
    out.fill(0);
    addMasks(out, STE_ALWAYS);
    if (getField(ste, 0, Ste.V) === 0) return;
    addMask(out, Ste.Config);
    const config = getField(ste, 0, Ste.Config);
    // Without bit 2 everything aborts, and nothing else counts.
    if ((config & SteConfig.bypass) === 0) return;
    if (config === SteConfig.bypass) addMask(out, Ste.SHCFG);
    if ((config & CONFIG_STAGE1) !== 0) {
      addMasks(out, STE_STAGE1);
      if (getField(ste, 0, Ste.S1DSS) === S1Dss.bypass) addMask(out, Ste.SHCFG);
    }
    if ((config & CONFIG_STAGE2) !== 0) addMasks(out, STE_STAGE2);
  },
  /**
   * MEV only merges events. EATS may change early because ATS is off in PCI whenever it
   * changes, but not through a combination that is illegal in itself (split stage; S2S).
   */
  safe(current, target, out) {
    out.fill(0);
    addMask(out, Ste.MEV);
    for (const ste of [current, target]) {
      if (getField(ste, 0, Ste.EATS) === Eats.splitStage) return;
      if (getField(ste, 0, Ste.S2S) === 1) return;
    }
    out[Ste.EATS.word] |= Eats.full << Ste.EATS.shift;
  },
};

/** What the SMMU ignores while walks through TTB0 are disabled. */
const CD_LOWER_HALF: readonly AnyField[] = [Cd.T0SZ, Cd.TG0, Cd.IR0, Cd.OR0, Cd.SH0, Cd.TTB0];

export const CD_FORMAT: EntryFormat = {
  name: "context descriptor",
  used(cd, out) {
    out.fill(0);
    addMask(out, Cd.V);
    if (getField(cd, 0, Cd.V) === 0) return;
    out.fill(0xffffffff);
    if (getField(cd, 0, Cd.EPD0) === 1) for (const of of CD_LOWER_HALF) removeMask(out, of);
  },
  safe(_current, _target, out) {
    out.fill(0);
  },
};

/** What the builders need to know of the SMMU. */
export interface EntryFeatures {
  /** IDR1.ATTR_TYPES_OVR: SHCFG has a meaning. */
  readonly attributeTypesOverride: boolean;
  /** The SMMU can stall faulting transactions, if the entry does not forbid it. */
  readonly stalls: boolean;
  /** Stage 1 is EL2's. */
  readonly e2h: boolean;
}

export function abortSte(): Uint32Array {
  const ste = new Uint32Array(ENTRY_WORDS);
  setField(ste, 0, Ste.V, 1);
  setField(ste, 0, Ste.Config, SteConfig.abort);
  return ste;
}

export function bypassSte(features: EntryFeatures): Uint32Array {
  const ste = new Uint32Array(ENTRY_WORDS);
  setField(ste, 0, Ste.V, 1);
  setField(ste, 0, Ste.Config, SteConfig.bypass);
  if (features.attributeTypesOverride) setField(ste, 0, Ste.SHCFG, SHCFG_USE_INCOMING);
  return ste;
}

/** What an entry that leads to context descriptors says, besides where they are. */
export interface CdTableUse {
  readonly table: Pick<CdTable, "base" | "format" | "substreamBits">;
  /** S1DSS: what traffic without a SubstreamID gets. */
  readonly s1dss: number;
  readonly ats: boolean;
  /** Faulting transactions of the device may wait for software. */
  readonly stalls: boolean;
}

/** Stage 1 by a table of context descriptors (kernel: arm_smmu_make_cdtable_ste()). */
export function stage1Ste(features: EntryFeatures, use: CdTableUse): Uint32Array {
  const ste = new Uint32Array(ENTRY_WORDS);
  setField(ste, 0, Ste.V, 1);
  setField(ste, 0, Ste.Config, SteConfig.stage1);
  setField(ste, 0, Ste.S1Fmt, use.table.format);
  setAddress(ste, 0, Ste.S1ContextPtr, use.table.base);
  setField(ste, 0, Ste.S1CDMax, use.table.substreamBits);
  setField(ste, 0, Ste.S1DSS, use.s1dss);
  setField(ste, 0, Ste.S1CIR, CD_FETCH_WRITE_BACK);
  setField(ste, 0, Ste.S1COR, CD_FETCH_WRITE_BACK);
  setField(ste, 0, Ste.S1CSH, INNER_SHAREABLE);
  setField(ste, 0, Ste.STRW, features.e2h ? StreamWorld.el2 : StreamWorld.nsEl1);
  setField(ste, 0, Ste.EATS, use.ats ? Eats.full : Eats.refused);
  if (features.stalls && !use.stalls) setField(ste, 0, Ste.S1STALLD, 1);
  if (use.s1dss === S1Dss.bypass && features.attributeTypesOverride) {
    setField(ste, 0, Ste.SHCFG, SHCFG_USE_INCOMING);
  }
  return ste;
}

/** What an entry with a stage 2 says of it. */
export interface Stage2Use {
  readonly controls: LpaeStage2Controls;
  readonly rootAddress: PhysicalAddress;
  readonly vmid: number;
  readonly ats: boolean;
  readonly stalls: boolean;
}

/** Stage 2 alone (kernel: arm_smmu_make_s2_domain_ste()). */
export function stage2Ste(features: EntryFeatures, use: Stage2Use): Uint32Array {
  const { controls } = use;
  const ste = new Uint32Array(ENTRY_WORDS);
  setField(ste, 0, Ste.V, 1);
  setField(ste, 0, Ste.Config, SteConfig.stage2);
  setField(ste, 0, Ste.EATS, use.ats ? Eats.full : Eats.refused);
  if (features.attributeTypesOverride) setField(ste, 0, Ste.SHCFG, SHCFG_USE_INCOMING);
  setField(ste, 0, Ste.S2VMID, use.vmid);
  setField(ste, 0, Ste.S2T0SZ, controls.t0sz);
  setField(ste, 0, Ste.S2SL0, controls.sl0);
  setField(ste, 0, Ste.S2IR0, controls.ir0);
  setField(ste, 0, Ste.S2OR0, controls.or0);
  setField(ste, 0, Ste.S2SH0, controls.sh0);
  setField(ste, 0, Ste.S2TG, controls.tg);
  setField(ste, 0, Ste.S2PS, controls.ps);
  setField(ste, 0, Ste.S2AA64, 1);
  setField(ste, 0, Ste.S2PTW, 1);
  setField(ste, 0, Ste.S2R, 1);
  setField(ste, 0, Ste.S2S, use.stalls ? 1 : 0);
  setAddress(ste, 0, Ste.S2TTB, use.rootAddress);
  return ste;
}

/** Fields of a guest's entry that nesting takes over as they are. */
const GUEST_STAGE1: readonly AnyField[] = [
  Ste.S1Fmt,
  Ste.S1ContextPtr,
  Ste.S1CDMax,
  Ste.S1DSS,
  Ste.S1CIR,
  Ste.S1COR,
  Ste.S1CSH,
  Ste.S1STALLD,
];

/**
 * A guest's stage 1 within stage 2: the guest's entry says where its descriptors are, in its
 * own addresses, everything else is the host's (kernel: arm_smmu_make_nested_cd_table_ste()).
 */
export function nestedSte(
  features: EntryFeatures,
  use: Stage2Use,
  guest: Uint32Array,
): Uint32Array {
  const ste = stage2Ste(features, use);
  setField(ste, 0, Ste.Config, SteConfig.nested);
  const taken = new Uint32Array(ENTRY_WORDS);
  addMasks(taken, GUEST_STAGE1);
  for (let word = 0; word < ENTRY_WORDS; word++) ste[word] |= guest[word] & taken[word];
  return ste;
}

/** Bits of a guest's entry that mean something to its host; the guest may set no others. */
export function guestSteMask(): Uint32Array {
  const mask = new Uint32Array(ENTRY_WORDS);
  addMasks(mask, [Ste.V, Ste.Config, Ste.EATS, ...GUEST_STAGE1]);
  return mask;
}

/** A domain's page table, as one context descriptor. */
export function stage1Cd(
  controls: LpaeControls,
  rootAddress: PhysicalAddress,
  asid: number,
  stalls: boolean,
): Uint32Array {
  const cd = new Uint32Array(ENTRY_WORDS);
  setField(cd, 0, Cd.T0SZ, controls.t0sz);
  setField(cd, 0, Cd.TG0, controls.tg0);
  setField(cd, 0, Cd.IR0, controls.ir0);
  setField(cd, 0, Cd.OR0, controls.or0);
  setField(cd, 0, Cd.SH0, controls.sh0);
  // DMA has no use for the upper half of the address space.
  setField(cd, 0, Cd.EPD1, 1);
  setField(cd, 0, Cd.V, 1);
  setField(cd, 0, Cd.IPS, controls.ips);
  setField(cd, 0, Cd.AA64, 1);
  // Faulting accesses are recorded, and aborted unless they wait for software.
  setField(cd, 0, Cd.R, 1);
  setField(cd, 0, Cd.A, 1);
  setField(cd, 0, Cd.S, stalls ? 1 : 0);
  // The ASID is the driver's own: broadcasts of the CPUs' TLB maintenance are not meant for it.
  setField(cd, 0, Cd.ASET, 1);
  setField(cd, 0, Cd.ASID, asid);
  setAddress(cd, 0, Cd.TTB0, rootAddress);
  setField(cd, 0, Cd.MAIR_LO, controls.mairLo);
  setField(cd, 0, Cd.MAIR_HI, controls.mairHi);
  return cd;
}

function addMasks(out: Uint32Array, fields: readonly AnyField[]): void {
  for (const of of fields) addMask(out, of);
}

export function addMask(out: Uint32Array, of: AnyField): void {
  if ("last" in of) {
    out[of.word] |= -1 << of.first;
    out[of.word + 1] |= highMask(of.last);
  } else out[of.word] |= fieldMask(of as Field);
}

function removeMask(out: Uint32Array, of: AnyField): void {
  if ("last" in of) {
    out[of.word] &= ~(-1 << of.first);
    out[of.word + 1] &= ~highMask(of.last);
  } else out[of.word] &= ~fieldMask(of as Field);
}

/** Bits last..32 of a 64-bit word, in its upper half. */
function highMask(last: number): number {
  return last === 63 ? -1 : (1 << (last - 31)) - 1;
}
