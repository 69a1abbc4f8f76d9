/**
 * Page-table entries in plain words (Arm DDI 0487, D8.3), both stages. What an entry is depends
 * on its level; where nobody knows the level, both readings are given.
 */

import {
  ENTRY_BLOCK,
  ENTRY_TABLE,
  ENTRY_TYPE_MASK,
  EntryKind,
  entryAddress,
  entryKind,
  type GranuleLg2,
  LAST_LEVEL,
  levelSizeLg2,
} from "#arch/lpae";
import { quadField } from "#arch/smmuv3";
import { type FieldView, hex, type Meanings, sizeText, viewFields } from "./fields.js";

export interface EntryPlace {
  /** Undefined where it is not known. */
  readonly level: number | undefined;
  readonly stage: 1 | 2;
  readonly granuleLg2: GranuleLg2;
  /** Whether 4 TiB blocks exist depends on it (64 KiB granule). */
  readonly outputBits: number;
}

const YES_NO = ["no", "yes"];

const LEAF_COMMON = {
  SH: quadField(0, 9, 8),
  AF: quadField(0, 10, 10),
  DBM: quadField(0, 51, 51),
  Contiguous: quadField(0, 52, 52),
} as const;
const STAGE1_LEAF = {
  AttrIndx: quadField(0, 4, 2),
  NS: quadField(0, 5, 5),
  AP: quadField(0, 7, 6),
  ...LEAF_COMMON,
  nG: quadField(0, 11, 11),
  PXN: quadField(0, 53, 53),
  UXN: quadField(0, 54, 54),
} as const;
const STAGE2_LEAF = {
  MemAttr: quadField(0, 5, 2),
  S2AP: quadField(0, 7, 6),
  ...LEAF_COMMON,
  XN: quadField(0, 54, 53),
} as const;
const TABLE = {
  PXNTable: quadField(0, 59, 59),
  XNTable: quadField(0, 60, 60),
  APTable: quadField(0, 62, 61),
  NSTable: quadField(0, 63, 63),
} as const;

const ENTRY_MEANINGS: Meanings = {
  SH: ["non-shareable", "reserved", "outer shareable", "inner shareable"],
  AF: ["access flag clear: the first access faults", "accessed"],
  DBM: ["writable as AP says", "hardware may make it writable (dirty tracking)"],
  Contiguous: YES_NO,
  AttrIndx: (value) => `memory type ${value} of MAIR`,
  NS: YES_NO,
  AP: [
    "read and write, privileged only",
    "read and write",
    "read only, privileged only",
    "read only",
  ],
  nG: ["global: of every ASID", "of its ASID only"],
  PXN: ["privileged execution allowed", "no privileged execution"],
  UXN: ["unprivileged execution allowed", "no unprivileged execution"],
  MemAttr: (value) => S2_MEMORY_TYPES[value] ?? `memory attribute ${hex(value)}`,
  S2AP: ["no access", "read only", "write only", "read and write"],
  XN: ["execution allowed", "no privileged execution", "no execution", "no unprivileged execution"],
  PXNTable: ["no limit", "no privileged execution below"],
  XNTable: ["no limit", "no execution below"],
  APTable: [
    "no limit",
    "no unprivileged access below",
    "no writes below",
    "no writes and no unprivileged access below",
  ],
  NSTable: YES_NO,
};

/** Without FWB: outer cacheability in bits 3:2, inner in 1:0; 0 to 3 are device types. */
const S2_MEMORY_TYPES: Readonly<Record<number, string>> = {
  0: "device nGnRnE",
  1: "device nGnRE",
  2: "device nGRE",
  3: "device GRE",
  5: "normal, non-cacheable",
  15: "normal, write-back",
};

/** What the entry is and leads to, and its fields. */
export interface EntryView {
  readonly kind: "invalid" | "table" | "leaf" | "table or page";
  /** Next table or output; 0 for an invalid entry. */
  readonly address: number;
  /** Of a leaf whose level is known. */
  readonly sizeBytes: number | undefined;
  readonly text: string;
  readonly fields: readonly FieldView[];
}

export function viewEntry(lo: number, hi: number, place: EntryPlace): EntryView {
  const { level, granuleLg2 } = place;
  if (level === undefined) return ofUnknownLevel(lo, hi, place);
  const kind = entryKind(lo, level, granuleLg2, place.outputBits);
  if (kind === EntryKind.invalid) return invalid(lo);
  if (kind === EntryKind.table) {
    const address = entryAddress(lo, hi, granuleLg2, granuleLg2);
    const text = `table at ${hex(address)}`;
    const fields = place.stage === 1 ? viewOne(lo, hi, TABLE) : [];
    return { kind: "table", address, sizeBytes: undefined, text, fields };
  }
  const sizeLg2 = levelSizeLg2(granuleLg2, level);
  const address = entryAddress(lo, hi, granuleLg2, sizeLg2);
  const what = level === LAST_LEVEL ? "page" : "block";
  const text = `${what} of ${sizeText(2 ** sizeLg2)} at ${hex(address)}`;
  return {
    kind: "leaf",
    address,
    sizeBytes: 2 ** sizeLg2,
    text,
    fields: leafFields(lo, hi, place),
  };
}

function ofUnknownLevel(lo: number, hi: number, place: EntryPlace): EntryView {
  const type = lo & ENTRY_TYPE_MASK;
  if (type !== ENTRY_BLOCK && type !== ENTRY_TABLE) return invalid(lo);
  const address = entryAddress(lo, hi, place.granuleLg2, place.granuleLg2);
  const fields = leafFields(lo, hi, place);
  if (type === ENTRY_BLOCK) {
    const text = `block at ${hex(address)} (its level says how large)`;
    return { kind: "leaf", address, sizeBytes: undefined, text, fields };
  }
  const text = `page at ${hex(address)} if this is level 3, table at ${hex(address)} above`;
  return { kind: "table or page", address, sizeBytes: undefined, text, fields };
}

function invalid(lo: number): EntryView {
  const isReserved = (lo & 1) !== 0;
  const text = isReserved ? "a block where none may be: invalid" : "invalid: nothing is mapped";
  return { kind: "invalid", address: 0, sizeBytes: undefined, text, fields: [] };
}

function leafFields(lo: number, hi: number, place: EntryPlace): FieldView[] {
  return viewOne(lo, hi, place.stage === 1 ? STAGE1_LEAF : STAGE2_LEAF);
}

function viewOne(lo: number, hi: number, fields: Parameters<typeof viewFields>[1]): FieldView[] {
  return viewFields(Uint32Array.of(lo, hi), fields, ENTRY_MEANINGS);
}
