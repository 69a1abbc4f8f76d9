/** Context descriptor, 64 bytes (Arm IHI 0070, 5.4). Unlisted bits are zero here. */

import { addressField, field, quadField } from "../field.js";

export const CD_WORDS = 16;
export const CD_BYTES = 64;

export const Cd = {
  T0SZ: quadField(0, 5, 0),
  TG0: quadField(0, 7, 6),
  IR0: quadField(0, 9, 8),
  OR0: quadField(0, 11, 10),
  SH0: quadField(0, 13, 12),
  EPD0: quadField(0, 14, 14),
  ENDI: quadField(0, 15, 15),
  T1SZ: quadField(0, 21, 16),
  TG1: quadField(0, 23, 22),
  IR1: quadField(0, 25, 24),
  OR1: quadField(0, 27, 26),
  SH1: quadField(0, 29, 28),
  EPD1: quadField(0, 30, 30),
  V: quadField(0, 31, 31),
  IPS: quadField(0, 34, 32),
  AFFD: quadField(0, 35, 35),
  WXN: quadField(0, 36, 36),
  UWXN: quadField(0, 37, 37),
  TBI0: quadField(0, 38, 38),
  TBI1: quadField(0, 39, 39),
  PAN: quadField(0, 40, 40),
  AA64: quadField(0, 41, 41),
  HD: quadField(0, 42, 42),
  HA: quadField(0, 43, 43),
  S: quadField(0, 44, 44),
  R: quadField(0, 45, 45),
  A: quadField(0, 46, 46),
  ASET: quadField(0, 47, 47),
  ASID: quadField(0, 63, 48),
  HAD0: quadField(1, 1, 1),
  TTB0: addressField(1, 51, 4),
  HAD1: quadField(2, 1, 1),
  TTB1: addressField(2, 51, 4),
  MAIR_LO: field(6, 0, 32),
  MAIR_HI: field(7, 0, 32),
} as const;

/** Level-1 descriptor of a two-level context descriptor table, 8 bytes. */
export const CdL1 = {
  V: quadField(0, 0, 0),
  L2Ptr: addressField(0, 51, 12),
} as const;

export const CD_L1_BYTES = 8;

/** Descriptors in a level-2 table, by S1Fmt. */
export const CDS_PER_4K_TABLE = 64;
export const CDS_PER_64K_TABLE = 1024;
