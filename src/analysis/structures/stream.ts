/**
 * Stream table entries and level-1 descriptors in plain words (Arm IHI 0070, 5.1 and 5.2). The
 * layouts are arch/'s.
 */

import { l2Entries, Ste, StreamL1 } from "#arch/smmuv3";
import { type FieldView, hex, type Meanings, viewFields } from "./fields.js";
import { OUTPUT_SIZES, T0SZ_TEXT } from "./sizes.js";

const CACHEABILITY = [
  "non-cacheable",
  "write-back, read-allocate",
  "write-through, read-allocate",
  "write-back, no read-allocate",
];
const SHAREABILITY = ["non-shareable", "reserved", "outer shareable", "inner shareable"];
const WALK_CACHEABILITY = [
  "non-cacheable",
  "write-back, write-allocate",
  "write-through",
  "write-back, no write-allocate",
];

const STE_MEANINGS: Meanings = {
  V: ["the entry is invalid: every transaction is C_BAD_STE", "the entry is valid"],
  Config: (value) => CONFIGS[value] ?? "aborts every transaction, without an event",
  S1Fmt: [
    "linear table of context descriptors",
    "two levels, second-level tables of 4 KiB (64 descriptors)",
    "two levels, second-level tables of 64 KiB (1024 descriptors)",
  ],
  S1ContextPtr: (value) => `context descriptor table at ${hex(value)}`,
  S1CDMax: (value) =>
    value === 0 ? "one context descriptor, no substreams" : `2^${value} context descriptors`,
  S1DSS: [
    "traffic without a SubstreamID is terminated",
    "traffic without a SubstreamID bypasses stage 1",
    "traffic without a SubstreamID uses context descriptor 0",
  ],
  S1CIR: CACHEABILITY,
  S1COR: CACHEABILITY,
  S1CSH: SHAREABILITY,
  MEV: ["events are not merged", "similar events may be merged into one"],
  S2FWB: ["stage 2 combines memory attributes", "stage 2 forces write-back"],
  S1STALLD: ["stage-1 faults may stall where the context says so", "stage-1 faults never stall"],
  EATS: [
    "ATS requests are refused",
    "full ATS: the device's translated accesses are trusted",
    "split-stage ATS: translated accesses still go through stage 2",
    "reserved (needs DPT)",
  ],
  STRW: ["non-secure EL1", "reserved", "EL2 (or EL2-E2H)", "reserved"],
  MTCFG: ["memory type as it comes in", "memory type is MemAttr"],
  SHCFG: ["non-shareable", "incoming shareability is kept", "outer shareable", "inner shareable"],
  NSCFG: ["incoming NS is kept", "reserved", "secure", "non-secure"],
  PRIVCFG: ["incoming privilege is kept", "reserved", "always unprivileged", "always privileged"],
  INSTCFG: ["incoming instruction bit is kept", "reserved", "always data", "always instruction"],
  S2VMID: (value) => `VMID ${value}`,
  S2T0SZ: T0SZ_TEXT,
  S2SL0: (value) => `start level code ${value}`,
  S2IR0: WALK_CACHEABILITY,
  S2OR0: WALK_CACHEABILITY,
  S2SH0: SHAREABILITY,
  S2TG: ["4 KiB granule", "64 KiB granule", "16 KiB granule"],
  S2PS: OUTPUT_SIZES,
  S2AA64: ["AArch32 tables", "AArch64 tables"],
  S2ENDI: ["little-endian tables", "big-endian tables"],
  S2AFFD: ["a clear access flag faults", "the access flag is ignored"],
  S2PTW: ["stage-1 walks may touch device memory", "stage-1 walks to device memory fault"],
  S2HD: ["no hardware dirty state", "hardware manages dirty state"],
  S2HA: ["no hardware access flag", "hardware manages the access flag"],
  S2S: ["stage-2 faults terminate", "stage-2 faults stall"],
  S2R: ["stage-2 faults are not recorded", "stage-2 faults are recorded"],
  S2TTB: (value) => `stage-2 table at ${hex(value)}`,
};

const CONFIGS: Readonly<Record<number, string>> = {
  4: "bypass: addresses pass untranslated",
  5: "stage 1 translates",
  6: "stage 2 translates",
  7: "nested: stage 1, then stage 2",
};

/** All fields of the stream table entry in the first eight words. */
export function viewSte(words: Uint32Array): FieldView[] {
  return viewFields(words, Ste, STE_MEANINGS);
}

/** The level-1 stream table descriptor in the first two words. */
export function viewStreamL1(words: Uint32Array): FieldView[] {
  return viewFields(words, StreamL1, {
    Span: (value) => {
      if (value === 0) return "invalid: no second-level table";
      return value > 11 ? "reserved" : `second-level table of ${l2Entries(value)} entries`;
    },
    L2Ptr: (value) => `second-level table at ${hex(value)}`,
  });
}
