/**
 * What an SMMU says about itself (kernel: arm_smmu_device_hw_probe). Only reads registers.
 */

import {
  extract,
  type Field,
  IDR0,
  IDR1,
  IDR3,
  IDR5,
  IIDR,
  Register,
  ST_LEVEL_TWO,
  STALL_MODEL_TERMINATE_ONLY,
  TTENDIAN_LITTLE,
  TTF_AARCH64,
} from "#arch/smmuv3";
import { type Cpu, hex, type PhysicalAddress, type Routine } from "#machine";
import { SmmuV3Error } from "./reports.js";

/** What 4 KiB tables of four levels translate; IDR5.VAX would allow 52 bits with 64 KiB pages. */
const IAS_BITS = 48;
/** Output sizes by IDR5.OAS; reserved values count as 48 bits. */
const OAS_BITS = [32, 36, 40, 42, 44, 48, 52];
const OAS_BITS_RESERVED = 48;
/** TTENDIAN: 0 is mixed, which can do little-endian as well. */
const TTENDIAN_MIXED = 0;
/** IIDR of Arm's MMU-700, whose erratum 2812531 wants a CMD_SYNC after 63 commands. */
const IMPLEMENTER_ARM = 0x43b;
const PRODUCT_MMU_700 = 0x487;

export interface Features {
  /** Walks and queue accesses snoop the CPUs' caches. */
  readonly coherent: boolean;
  /** There are EL2 contexts, whose TLB entries a reset must drop. */
  readonly hyp: boolean;
  /** Stage 1 is translated as for software at EL2 with a host of its own (E2H). */
  readonly e2h: boolean;
  readonly asidBits: number;
  readonly vmidBits: number;
  /** Stage 2; with it, since every SMMU here has stage 1, nesting too. */
  readonly stage2: boolean;
  /** Endpoints may ask for translations and keep them. */
  readonly ats: boolean;
  /** Bits of SubstreamID; 0: none. */
  readonly substreamBits: number;
  readonly twoLevelCdTable: boolean;
  /** Completion of CMD_SYNC and interrupts can be written to memory. */
  readonly msi: boolean;
  /** CMD_SYNC can wake CPUs that wait for an event. */
  readonly sev: boolean;
  readonly stalls: boolean;
  /** Devices can ask for pages over PCI. */
  readonly pri: boolean;
  readonly twoLevelStreamTable: boolean;
  readonly streamIdBits: number;
  readonly commandQueueLg2: number;
  readonly eventQueueLg2: number;
  readonly priQueueLg2: number;
  readonly rangeInvalidation: boolean;
  readonly attributeTypesOverride: boolean;
  readonly iasBits: number;
  readonly oasBits: number;
  readonly forceSync: boolean;
}

/** `wantsE2h`: the driver is part of such a host, if the SMMU can serve one. */
export function* probe(cpu: Cpu, base: PhysicalAddress, wantsE2h: boolean): Routine<Features> {
  const idr0 = yield* cpu.readRegister32(base + Register.IDR0);
  const idr1 = yield* cpu.readRegister32(base + Register.IDR1);
  const idr3 = yield* cpu.readRegister32(base + Register.IDR3);
  const idr5 = yield* cpu.readRegister32(base + Register.IDR5);
  const iidr = yield* cpu.readRegister32(base + Register.IIDR);
  refuse(base, idr0, idr1, idr5);
  const isMmu700 =
    extract(iidr, IIDR.IMPLEMENTER) === IMPLEMENTER_ARM &&
    extract(iidr, IIDR.PRODUCTID) === PRODUCT_MMU_700;
  return {
    coherent: isSet(idr0, IDR0.COHACC),
    hyp: isSet(idr0, IDR0.HYP),
    e2h: isSet(idr0, IDR0.HYP) && wantsE2h,
    asidBits: isSet(idr0, IDR0.ASID16) ? 16 : 8,
    vmidBits: isSet(idr0, IDR0.VMID16) ? 16 : 8,
    stage2: isSet(idr0, IDR0.S2P),
    ats: isSet(idr0, IDR0.ATS),
    substreamBits: extract(idr1, IDR1.SSIDSIZE),
    twoLevelCdTable: isSet(idr0, IDR0.CD2L),
    msi: isSet(idr0, IDR0.MSI),
    stalls: extract(idr0, IDR0.STALL_MODEL) !== STALL_MODEL_TERMINATE_ONLY,
    sev: isSet(idr0, IDR0.SEV),
    pri: isSet(idr0, IDR0.PRI),
    twoLevelStreamTable: extract(idr0, IDR0.ST_LEVEL) === ST_LEVEL_TWO,
    streamIdBits: extract(idr1, IDR1.SIDSIZE),
    commandQueueLg2: extract(idr1, IDR1.CMDQS),
    eventQueueLg2: extract(idr1, IDR1.EVENTQS),
    priQueueLg2: extract(idr1, IDR1.PRIQS),
    rangeInvalidation: isSet(idr3, IDR3.RIL),
    attributeTypesOverride: isSet(idr1, IDR1.ATTR_TYPES_OVR),
    iasBits: IAS_BITS,
    oasBits: OAS_BITS[extract(idr5, IDR5.OAS)] ?? OAS_BITS_RESERVED,
    forceSync: isMmu700,
  };
}

/** Throws for hardware that this driver cannot run. */
function refuse(base: PhysicalAddress, idr0: number, idr1: number, idr5: number): void {
  const endianness = extract(idr0, IDR0.TTENDIAN);
  const problems = [
    [!isSet(idr0, IDR0.S1P), "it has no stage 1 (IDR0.S1P)"],
    [(extract(idr0, IDR0.TTF) & TTF_AARCH64) === 0, "it has no AArch64 tables (IDR0.TTF)"],
    [
      endianness !== TTENDIAN_LITTLE && endianness !== TTENDIAN_MIXED,
      "its tables are big-endian (IDR0.TTENDIAN)",
    ],
    [
      isSet(idr1, IDR1.TABLES_PRESET) || isSet(idr1, IDR1.QUEUES_PRESET),
      "its tables or queues are at fixed places (IDR1.TABLES_PRESET, QUEUES_PRESET)",
    ],
    [!isSet(idr5, IDR5.GRAN4K), "it has no 4 KiB granule (IDR5.GRAN4K)"],
  ] as const;
  for (const [applies, what] of problems) {
    if (!applies) continue;
    const registers = `IDR0 ${hex(idr0)}, IDR1 ${hex(idr1)}, IDR5 ${hex(idr5)}`;
    throw new SmmuV3Error("UNSUPPORTED", base, `${what}, which this driver needs (${registers})`);
  }
}

function isSet(register: number, of: Field): boolean {
  return extract(register, of) === 1;
}
