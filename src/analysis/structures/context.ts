/**
 * Context descriptors and level-1 descriptors in plain words (Arm IHI 0070, 5.3 and 5.4). The
 * layouts are arch/'s.
 */

import { Cd, CdL1 } from "#arch/smmuv3";
import { type FieldView, hex, type Meanings, viewFields } from "./fields.js";
import { OUTPUT_SIZES, T0SZ_TEXT } from "./sizes.js";

const WALK_CACHEABILITY = [
  "table walks non-cacheable",
  "table walks write-back, write-allocate",
  "table walks write-through",
  "table walks write-back, no write-allocate",
];
const SHAREABILITY = ["non-shareable", "reserved", "outer shareable", "inner shareable"];
const WALKS_DISABLED = ["the table is walked", "no walks: every address in this half faults"];
const TOP_BYTE = ["the top byte is part of the address", "the top byte is ignored"];
const HAD = ["attributes in table entries count", "attributes in table entries are ignored"];

const CD_MEANINGS: Meanings = {
  T0SZ: T0SZ_TEXT,
  TG0: ["4 KiB granule", "64 KiB granule", "16 KiB granule"],
  IR0: WALK_CACHEABILITY,
  OR0: WALK_CACHEABILITY,
  SH0: SHAREABILITY,
  EPD0: WALKS_DISABLED,
  ENDI: ["little-endian tables", "big-endian tables"],
  T1SZ: T0SZ_TEXT,
  TG1: ["reserved", "16 KiB granule", "4 KiB granule", "64 KiB granule"],
  IR1: WALK_CACHEABILITY,
  OR1: WALK_CACHEABILITY,
  SH1: SHAREABILITY,
  EPD1: WALKS_DISABLED,
  V: ["the descriptor is invalid: every transaction is C_BAD_CD", "the descriptor is valid"],
  IPS: OUTPUT_SIZES,
  AFFD: ["a clear access flag faults", "the access flag is ignored"],
  WXN: ["writable memory may be executed", "writable memory is never executed"],
  UWXN: ["no effect", "what is writable unprivileged is never executed privileged"],
  TBI0: TOP_BYTE,
  TBI1: TOP_BYTE,
  PAN: ["privileged access to unprivileged pages allowed", "such access faults"],
  AA64: ["AArch32 tables", "AArch64 tables"],
  HD: ["no hardware dirty state", "hardware manages dirty state"],
  HA: ["no hardware access flag", "hardware manages the access flag"],
  S: ["faults do not stall", "faults stall the transaction"],
  R: ["faults are not recorded", "faults are recorded"],
  A: ["faulting reads give zero, writes are ignored", "faulting transactions abort"],
  ASET: ["the ASID takes part in broadcast maintenance", "the ASID is the SMMU's own"],
  ASID: (value) => `ASID ${value}`,
  HAD0: HAD,
  TTB0: (value) => `table of the lower half at ${hex(value)}`,
  HAD1: HAD,
  TTB1: (value) => `table of the upper half at ${hex(value)}`,
  MAIR_LO: (value) => attributesText(value, 0),
  MAIR_HI: (value) => attributesText(value, 4),
};

/** All fields of the context descriptor in the first eight words. */
export function viewCd(words: Uint32Array): FieldView[] {
  return viewFields(words, Cd, CD_MEANINGS);
}

/** The level-1 context descriptor in the first two words. */
export function viewCdL1(words: Uint32Array): FieldView[] {
  return viewFields(words, CdL1, {
    V: ["invalid: no second-level table", "valid"],
    L2Ptr: (value) => `second-level table at ${hex(value)}`,
  });
}

/** Four bytes of MAIR, by AttrIndx. */
function attributesText(value: number, firstIndex: number): string {
  return [0, 1, 2, 3]
    .map((byte) => `${firstIndex + byte}: ${memoryTypeText((value >>> (8 * byte)) & 0xff)}`)
    .join(", ");
}

/** One byte of MAIR (Arm DDI 0487, MAIR_ELx): the encodings that software uses by name. */
export function memoryTypeText(attribute: number): string {
  if (attribute === 0xff) return "normal, write-back";
  if (attribute === 0x44) return "normal, non-cacheable";
  if (attribute === 0xf4) return "normal, inner non-cacheable, outer write-back";
  if ((attribute & 0xf3) === 0) {
    return `device ${["nGnRnE", "nGnRE", "nGRE", "GRE"][(attribute >>> 2) & 3]}`;
  }
  return `attribute ${hex(attribute)}`;
}
