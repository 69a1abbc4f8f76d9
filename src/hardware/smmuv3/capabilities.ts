/**
 * What a model advertises. Every bit of the identification registers that is set has a
 * reason here; what is not listed is not implemented and reads as zero.
 */

import { outputSizeCode } from "#arch/lpae";
import {
  deposit,
  IDR0,
  IDR1,
  IDR3,
  IDR5,
  ST_LEVEL_TWO,
  STALL_MODEL_STALL_AND_TERMINATE,
  type STALL_MODEL_STALL_ONLY,
  STALL_MODEL_TERMINATE_ONLY,
  TTENDIAN_LITTLE,
  TTF_AARCH64,
} from "#arch/smmuv3";
import { assert } from "#machine";

export type StallModel =
  | typeof STALL_MODEL_STALL_AND_TERMINATE
  | typeof STALL_MODEL_TERMINATE_ONLY
  | typeof STALL_MODEL_STALL_ONLY;

export interface SmmuV3Capabilities {
  /** IDR0.S1P and S2P: the stages that can translate; with both, one after the other too. */
  readonly stage1: boolean;
  readonly stage2: boolean;
  /** IDR0.COHACC: tables and queues are read coherently; models read memory as CPUs see it. */
  readonly coherentAccess: boolean;
  /** IDR0.ASID16; otherwise ASIDs have 8 bits. */
  readonly asid16: boolean;
  /** IDR0.VMID16; otherwise VMIDs have 8 bits. */
  readonly vmid16: boolean;
  /** IDR0.HYP: streams of EL2, with and without E2H. */
  readonly hypervisor: boolean;
  /** IDR0.CD2L: two-level context descriptor tables. */
  readonly twoLevelContextTable: boolean;
  /** IDR0.MSI: interrupts and CMD_SYNC completions can be memory writes. */
  readonly msi: boolean;
  /** IDR0.SEV: a CMD_SYNC may wake CPUs that wait for an event. */
  readonly sev: boolean;
  /** IDR0.ATS: endpoints may ask for translations and keep them. */
  readonly ats: boolean;
  /** IDR0.NS1ATS = 0: with two stages endpoints may get the output of stage 1 (EATS = 2). */
  readonly splitStageAts: boolean;
  /** IDR0.PRI: endpoints may ask for pages; needs `ats`. */
  readonly pri: boolean;
  /** IDR0.STALL_MODEL: whether faulting transactions can be, or must be, held for software. */
  readonly stallModel: StallModel;
  /** IDR5.STALL_MAX: transactions that can be held at once; 0 with `terminateOnly`. */
  readonly stallsMax: number;
  /** IDR0.TERM_MODEL = 0: a terminated access may read zeros or write nothing, without an abort. */
  readonly readAsZero: boolean;
  /** IDR0.ST_LEVEL. */
  readonly twoLevelStreamTable: boolean;
  /** IDR3.RIL: range invalidation. */
  readonly rangeInvalidation: boolean;
  /** IDR3.BBML: 0, 1 or 2. The walker copes with any change of block size at once. */
  readonly breakBeforeMakeLevel: 0 | 1 | 2;
  /** IDR5.OAS in bits: 32, 36, 40, 42, 44, 48 or 52. */
  readonly outputBits: number;
  readonly granule4K: boolean;
  readonly granule16K: boolean;
  readonly granule64K: boolean;
  /** IDR1.SIDSIZE. */
  readonly streamIdBits: number;
  /** IDR1.SSIDSIZE; 0: no substreams. */
  readonly substreamIdBits: number;
  /** IDR1.CMDQS, EVENTQS and PRIQS: log2 of the largest queues. */
  readonly commandQueueLg2Max: number;
  readonly eventQueueLg2Max: number;
  readonly priQueueLg2Max: number;
}

/**
 * The emulated machine that the memory dumps and captures come from (QEMU 10.0.2 `virt`), less
 * stage 2, for which a machine has to ask.
 */
export const DEFAULT_CAPABILITIES: SmmuV3Capabilities = {
  stage1: true,
  stage2: false,
  coherentAccess: true,
  asid16: true,
  // Only stage 2 has VMIDs.
  vmid16: false,
  // QEMU has no EL2 streams and one context descriptor per stream.
  hypervisor: false,
  twoLevelContextTable: false,
  // QEMU has neither MSI nor SEV: completion is by polling CONS.
  msi: false,
  sev: false,
  // QEMU has neither ATS nor PRI; faulting transactions end at once, with an abort.
  ats: false,
  splitStageAts: false,
  pri: false,
  stallModel: STALL_MODEL_TERMINATE_ONLY,
  stallsMax: 0,
  readAsZero: false,
  twoLevelStreamTable: true,
  rangeInvalidation: true,
  breakBeforeMakeLevel: 2,
  outputBits: 44,
  granule4K: true,
  granule16K: true,
  granule64K: true,
  // One PCI segment: bus, device, function.
  streamIdBits: 16,
  substreamIdBits: 0,
  // The architecture's maximum, as QEMU has.
  commandQueueLg2Max: 19,
  eventQueueLg2Max: 19,
  priQueueLg2Max: 19,
};

/** All that the model can do, as a large server part has it. */
export const FULL_CAPABILITIES: SmmuV3Capabilities = {
  ...DEFAULT_CAPABILITIES,
  stage2: true,
  vmid16: true,
  hypervisor: true,
  twoLevelContextTable: true,
  msi: true,
  sev: true,
  ats: true,
  splitStageAts: true,
  pri: true,
  stallModel: STALL_MODEL_STALL_AND_TERMINATE,
  // Of the order of what server parts have.
  stallsMax: 64,
  readAsZero: true,
  outputBits: 52,
  // Several PCI segments.
  streamIdBits: 24,
  // PASIDs have 20 bits.
  substreamIdBits: 20,
};

/** AIDR: architecture 3.2, the first with range invalidation. */
export const AIDR_SMMU_V3_2 = 0x02;

/** PIDR4 to CIDR3, the bytes that QEMU's model has too. */
export const IDENTIFICATION_BYTES = [
  0x04, 0x00, 0x00, 0x00, 0x84, 0xb4, 0xf0, 0x10, 0x0d, 0xf0, 0x05, 0xb1,
] as const;

/** STALL_MAX has 16 bits. */
const STALLS_LIMIT = 0xffff;

export function capabilitiesWith(changes: Partial<SmmuV3Capabilities> = {}): SmmuV3Capabilities {
  const all = { ...DEFAULT_CAPABILITIES, ...changes };
  assert(all.stage1 || all.stage2, "an SMMU translates in one stage at least");
  assert(outputSizeCode(all.outputBits) >= 0, `OAS has a code: ${all.outputBits} bits`);
  assert(all.commandQueueLg2Max <= 19, "a command queue has at most 2^19 entries");
  assert(all.eventQueueLg2Max <= 19, "an event queue has at most 2^19 entries");
  assert(all.priQueueLg2Max <= 19, "a PRI queue has at most 2^19 entries");
  assert(all.ats || !all.pri, "PRI needs ATS");
  assert(
    all.stallModel === STALL_MODEL_TERMINATE_ONLY
      ? all.stallsMax === 0
      : all.stallsMax > 0 && all.stallsMax <= STALLS_LIMIT,
    "transactions are held where stalls are supported, and nowhere else",
  );
  assert(all.streamIdBits <= 32, "StreamIDs have at most 32 bits");
  assert(all.substreamIdBits <= 20, "SubstreamIDs have at most 20 bits");
  return all;
}

/** Whether tables of this granule can be walked. */
export function granuleExists(all: SmmuV3Capabilities, granuleLg2: number): boolean {
  if (granuleLg2 === 12) return all.granule4K;
  if (granuleLg2 === 14) return all.granule16K;
  return granuleLg2 === 16 && all.granule64K;
}

export function idr0Of(all: SmmuV3Capabilities): number {
  return (
    deposit(IDR0.S1P, Number(all.stage1)) |
    deposit(IDR0.S2P, Number(all.stage2)) |
    deposit(IDR0.TTF, TTF_AARCH64) |
    deposit(IDR0.COHACC, Number(all.coherentAccess)) |
    deposit(IDR0.HYP, Number(all.hypervisor)) |
    deposit(IDR0.ASID16, Number(all.asid16)) |
    deposit(IDR0.VMID16, Number(all.vmid16)) |
    deposit(IDR0.CD2L, Number(all.twoLevelContextTable)) |
    deposit(IDR0.MSI, Number(all.msi)) |
    deposit(IDR0.SEV, Number(all.sev)) |
    deposit(IDR0.TTENDIAN, TTENDIAN_LITTLE) |
    deposit(IDR0.ATS, Number(all.ats)) |
    deposit(IDR0.NS1ATS, Number(all.ats && !all.splitStageAts)) |
    deposit(IDR0.PRI, Number(all.pri)) |
    deposit(IDR0.STALL_MODEL, all.stallModel) |
    deposit(IDR0.TERM_MODEL, Number(!all.readAsZero)) |
    deposit(IDR0.ST_LEVEL, all.twoLevelStreamTable ? ST_LEVEL_TWO : 0)
  );
}

export function idr1Of(all: SmmuV3Capabilities): number {
  return (
    deposit(IDR1.SIDSIZE, all.streamIdBits) |
    deposit(IDR1.SSIDSIZE, all.substreamIdBits) |
    deposit(IDR1.PRIQS, all.pri ? all.priQueueLg2Max : 0) |
    deposit(IDR1.EVENTQS, all.eventQueueLg2Max) |
    deposit(IDR1.CMDQS, all.commandQueueLg2Max)
  );
}

export function idr3Of(all: SmmuV3Capabilities): number {
  return (
    // The walker honours CD.HAD0/1: table attributes can be switched off.
    deposit(IDR3.HAD, 1) |
    deposit(IDR3.RIL, Number(all.rangeInvalidation)) |
    deposit(IDR3.BBML, all.breakBeforeMakeLevel)
  );
}

export function idr5Of(all: SmmuV3Capabilities): number {
  return (
    deposit(IDR5.OAS, outputSizeCode(all.outputBits)) |
    deposit(IDR5.GRAN4K, Number(all.granule4K)) |
    deposit(IDR5.GRAN16K, Number(all.granule16K)) |
    deposit(IDR5.GRAN64K, Number(all.granule64K)) |
    deposit(IDR5.STALL_MAX, all.stallsMax)
  );
}
