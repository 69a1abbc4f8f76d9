/**
 * Registers of an SMMUv3: offsets and fields (Arm IHI 0070, chapter 6).
 *
 * Two pages of 64 KiB. Page 1 holds the producer and consumer indices of the event and
 * PRI queues. Fields of 64-bit registers count words from the register's low half.
 */

import { addressField, field } from "../field.js";

export const PAGE_BYTES = 0x10000;
export const REGISTERS_BYTES = 2 * PAGE_BYTES;

/** Byte offsets from the base of page 0. 64-bit registers are marked. */
export const Register = {
  IDR0: 0x00,
  IDR1: 0x04,
  IDR2: 0x08,
  IDR3: 0x0c,
  IDR4: 0x10,
  IDR5: 0x14,
  IIDR: 0x18,
  AIDR: 0x1c,
  CR0: 0x20,
  CR0ACK: 0x24,
  CR1: 0x28,
  CR2: 0x2c,
  STATUSR: 0x40,
  GBPA: 0x44,
  AGBPA: 0x48,
  IRQ_CTRL: 0x50,
  IRQ_CTRLACK: 0x54,
  GERROR: 0x60,
  GERRORN: 0x64,
  /** 64-bit. */
  GERROR_IRQ_CFG0: 0x68,
  GERROR_IRQ_CFG1: 0x70,
  GERROR_IRQ_CFG2: 0x74,
  /** 64-bit. */
  STRTAB_BASE: 0x80,
  STRTAB_BASE_CFG: 0x88,
  /** 64-bit. */
  CMDQ_BASE: 0x90,
  CMDQ_PROD: 0x98,
  CMDQ_CONS: 0x9c,
  /** 64-bit. */
  EVENTQ_BASE: 0xa0,
  /** 64-bit. */
  EVENTQ_IRQ_CFG0: 0xb0,
  EVENTQ_IRQ_CFG1: 0xb8,
  EVENTQ_IRQ_CFG2: 0xbc,
  /** 64-bit. */
  PRIQ_BASE: 0xc0,
  /** 64-bit. */
  PRIQ_IRQ_CFG0: 0xd0,
  PRIQ_IRQ_CFG1: 0xd8,
  PRIQ_IRQ_CFG2: 0xdc,
  /** First of the identification words PIDR4..CIDR3. */
  ID_FIRST: 0xfd0,
  ID_LAST: 0xffc,
  EVENTQ_PROD: PAGE_BYTES + 0xa8,
  EVENTQ_CONS: PAGE_BYTES + 0xac,
  PRIQ_PROD: PAGE_BYTES + 0xc8,
  PRIQ_CONS: PAGE_BYTES + 0xcc,
} as const;

export const IDR0 = {
  S2P: field(0, 0, 1),
  S1P: field(0, 1, 1),
  TTF: field(0, 2, 2),
  COHACC: field(0, 4, 1),
  BTM: field(0, 5, 1),
  HTTU: field(0, 6, 2),
  DORMHINT: field(0, 8, 1),
  HYP: field(0, 9, 1),
  ATS: field(0, 10, 1),
  NS1ATS: field(0, 11, 1),
  ASID16: field(0, 12, 1),
  MSI: field(0, 13, 1),
  SEV: field(0, 14, 1),
  ATOS: field(0, 15, 1),
  PRI: field(0, 16, 1),
  VMW: field(0, 17, 1),
  VMID16: field(0, 18, 1),
  CD2L: field(0, 19, 1),
  VATOS: field(0, 20, 1),
  TTENDIAN: field(0, 21, 2),
  ATSRECERR: field(0, 23, 1),
  STALL_MODEL: field(0, 24, 2),
  TERM_MODEL: field(0, 26, 1),
  ST_LEVEL: field(0, 27, 2),
} as const;

export const TTF_AARCH64 = 2;
export const TTENDIAN_LITTLE = 2;
export const STALL_MODEL_STALL_AND_TERMINATE = 0;
export const STALL_MODEL_TERMINATE_ONLY = 1;
export const STALL_MODEL_STALL_ONLY = 2;
export const ST_LEVEL_TWO = 1;

export const IDR1 = {
  SIDSIZE: field(0, 0, 6),
  SSIDSIZE: field(0, 6, 5),
  PRIQS: field(0, 11, 5),
  EVENTQS: field(0, 16, 5),
  CMDQS: field(0, 21, 5),
  ATTR_PERMS_OVR: field(0, 26, 1),
  ATTR_TYPES_OVR: field(0, 27, 1),
  REL: field(0, 28, 1),
  QUEUES_PRESET: field(0, 29, 1),
  TABLES_PRESET: field(0, 30, 1),
} as const;

export const IDR3 = {
  HAD: field(0, 2, 1),
  PBHA: field(0, 3, 1),
  XNX: field(0, 4, 1),
  PPS: field(0, 5, 1),
  MPAM: field(0, 7, 1),
  FWB: field(0, 8, 1),
  STT: field(0, 9, 1),
  RIL: field(0, 10, 1),
  BBML: field(0, 11, 2),
} as const;

export const IDR5 = {
  OAS: field(0, 0, 3),
  GRAN4K: field(0, 4, 1),
  GRAN16K: field(0, 5, 1),
  GRAN64K: field(0, 6, 1),
  VAX: field(0, 10, 2),
  STALL_MAX: field(0, 16, 16),
} as const;

export const IIDR = {
  IMPLEMENTER: field(0, 0, 12),
  REVISION: field(0, 12, 4),
  VARIANT: field(0, 16, 4),
  PRODUCTID: field(0, 20, 12),
} as const;

/** CR0, and CR0ACK in the same places. */
export const CR0 = {
  SMMUEN: field(0, 0, 1),
  PRIQEN: field(0, 1, 1),
  EVENTQEN: field(0, 2, 1),
  CMDQEN: field(0, 3, 1),
  ATSCHK: field(0, 4, 1),
} as const;

export const CR1 = {
  QUEUE_IC: field(0, 0, 2),
  QUEUE_OC: field(0, 2, 2),
  QUEUE_SH: field(0, 4, 2),
  TABLE_IC: field(0, 6, 2),
  TABLE_OC: field(0, 8, 2),
  TABLE_SH: field(0, 10, 2),
} as const;

/** Cacheability in CR1; other than in TCR. Shareability is encoded as in TCR. */
export const CR1_NON_CACHEABLE = 0;
export const CR1_WRITE_BACK = 1;
export const CR1_WRITE_THROUGH = 2;

export const CR2 = {
  E2H: field(0, 0, 1),
  RECINVSID: field(0, 1, 1),
  PTM: field(0, 2, 1),
  /** Configuration errors of translation requests and translated transactions are recorded. */
  REC_CFG_ATS: field(0, 3, 1),
} as const;

export const GBPA = {
  MEMATTR: field(0, 0, 4),
  MTCFG: field(0, 4, 1),
  ALLOCCFG: field(0, 8, 4),
  SHCFG: field(0, 12, 2),
  PRIVCFG: field(0, 16, 2),
  INSTCFG: field(0, 18, 2),
  ABORT: field(0, 20, 1),
  UPDATE: field(0, 31, 1),
} as const;

/** IRQ_CTRL, and IRQ_CTRLACK in the same places. */
export const IRQ_CTRL = {
  GERROR_IRQEN: field(0, 0, 1),
  PRIQ_IRQEN: field(0, 1, 1),
  EVENTQ_IRQEN: field(0, 2, 1),
} as const;

/** GERROR and GERRORN: an error is active while its bits differ. */
export const GERROR = {
  CMDQ_ERR: field(0, 0, 1),
  EVENTQ_ABT_ERR: field(0, 2, 1),
  PRIQ_ABT_ERR: field(0, 3, 1),
  MSI_CMDQ_ABT_ERR: field(0, 4, 1),
  MSI_EVENTQ_ABT_ERR: field(0, 5, 1),
  MSI_PRIQ_ABT_ERR: field(0, 6, 1),
  MSI_GERROR_ABT_ERR: field(0, 7, 1),
  SFM_ERR: field(0, 8, 1),
} as const;

/** All defined bits of GERROR. */
export const GERROR_MASK = 0x1fd;

export const STRTAB_BASE = {
  ADDR: addressField(0, 51, 6),
  RA: field(1, 30, 1),
} as const;

export const STRTAB_BASE_CFG = {
  LOG2SIZE: field(0, 0, 6),
  SPLIT: field(0, 6, 5),
  FMT: field(0, 16, 2),
} as const;

export const STRTAB_LINEAR = 0;
export const STRTAB_TWO_LEVEL = 1;

/** CMDQ_BASE, EVENTQ_BASE, PRIQ_BASE; the hint is RA or WA. */
export const QUEUE_BASE = {
  LOG2SIZE: field(0, 0, 5),
  ADDR: addressField(0, 51, 5),
  ALLOCATE_HINT: field(1, 30, 1),
} as const;

/** CMDQ_CONS: what stopped consumption. The index and wrap bits lie below. */
export const CMDQ_CONS = {
  RD: field(0, 0, 20),
  ERR: field(0, 24, 7),
} as const;

export const CommandError = {
  none: 0,
  illegal: 1,
  fetchAbort: 2,
  atcInvalidationTimeout: 3,
} as const;
export type CommandError = (typeof CommandError)[keyof typeof CommandError];

/** *_IRQ_CFG0, 64-bit. Address 0 means: no MSI, use the wired interrupt. */
export const IRQ_CFG0 = { ADDR: addressField(0, 51, 2) } as const;
/** *_IRQ_CFG1: the 32 bits of data that the MSI writes. */
export const IRQ_CFG1 = { DATA: field(0, 0, 32) } as const;
/** PRIQ_IRQ_CFG2, besides what all have. */
export const PRIQ_IRQ_CFG2 = {
  /** Interrupt for each last request of a group, not when the queue becomes non-empty. */
  LO: field(0, 31, 1),
} as const;
/** *_IRQ_CFG2. */
export const IRQ_CFG2 = {
  MEMATTR: field(0, 0, 4),
  SH: field(0, 4, 2),
} as const;
