/** Stream table entry, 64 bytes (Arm IHI 0070, 5.2). Unlisted bits are zero here. */

import { addressField, quadField } from "../field.js";

export const STE_WORDS = 16;
export const STE_BYTES = 64;

export const Ste = {
  V: quadField(0, 0, 0),
  Config: quadField(0, 3, 1),
  S1Fmt: quadField(0, 5, 4),
  S1ContextPtr: addressField(0, 51, 6),
  S1CDMax: quadField(0, 63, 59),
  S1DSS: quadField(1, 1, 0),
  S1CIR: quadField(1, 3, 2),
  S1COR: quadField(1, 5, 4),
  S1CSH: quadField(1, 7, 6),
  /** Automatic page responses carry the PASID of the request. */
  PPAR: quadField(1, 18, 18),
  MEV: quadField(1, 19, 19),
  S2FWB: quadField(1, 25, 25),
  S1STALLD: quadField(1, 27, 27),
  EATS: quadField(1, 29, 28),
  STRW: quadField(1, 31, 30),
  MemAttr: quadField(1, 35, 32),
  MTCFG: quadField(1, 36, 36),
  ALLOCCFG: quadField(1, 40, 37),
  SHCFG: quadField(1, 45, 44),
  NSCFG: quadField(1, 47, 46),
  PRIVCFG: quadField(1, 49, 48),
  INSTCFG: quadField(1, 51, 50),
  S2VMID: quadField(2, 15, 0),
  S2T0SZ: quadField(2, 37, 32),
  S2SL0: quadField(2, 39, 38),
  S2IR0: quadField(2, 41, 40),
  S2OR0: quadField(2, 43, 42),
  S2SH0: quadField(2, 45, 44),
  S2TG: quadField(2, 47, 46),
  S2PS: quadField(2, 50, 48),
  S2AA64: quadField(2, 51, 51),
  S2ENDI: quadField(2, 52, 52),
  S2AFFD: quadField(2, 53, 53),
  S2PTW: quadField(2, 54, 54),
  S2HD: quadField(2, 55, 55),
  S2HA: quadField(2, 56, 56),
  S2S: quadField(2, 57, 57),
  S2R: quadField(2, 58, 58),
  S2TTB: addressField(3, 51, 4),
} as const;

/** Config: bit 0 turns stage 1 on, bit 1 stage 2; without bit 2 everything aborts. */
export const SteConfig = {
  /** Aborts without an event. */
  abort: 0,
  bypass: 4,
  stage1: 5,
  stage2: 6,
  nested: 7,
} as const;
export type SteConfig = (typeof SteConfig)[keyof typeof SteConfig];

/** S1Fmt: layout of the context descriptor table. */
export const S1Fmt = {
  linear: 0,
  /** Level-2 tables of 4 KiB: 64 descriptors. */
  twoLevel4K: 1,
  /** Level-2 tables of 64 KiB: 1024 descriptors. */
  twoLevel64K: 2,
} as const;

/** S1DSS: what happens to traffic without a SubstreamID when there are substreams. */
export const S1Dss = {
  terminate: 0,
  bypass: 1,
  /** Context descriptor 0, which no SubstreamID may then name. */
  substream0: 2,
} as const;

/** S1CIR, S1COR: cacheability of context descriptor fetches. */
export const CD_FETCH_NON_CACHEABLE = 0;
export const CD_FETCH_WRITE_BACK = 1;
export const CD_FETCH_WRITE_THROUGH = 2;
export const CD_FETCH_WRITE_BACK_NO_ALLOCATE = 3;

/** STRW: the translation regime, part of the TLB tag. */
export const StreamWorld = { nsEl1: 0, el2: 2 } as const;

/** EATS: what Address Translation Services are allowed. */
export const Eats = { refused: 0, full: 1, splitStage: 2 } as const;

/** SHCFG: shareability of outgoing transactions. */
export const SHCFG_USE_INCOMING = 1;
