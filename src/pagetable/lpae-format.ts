/**
 * The Arm 64-bit format, both stages: levels up to 0..3 of 4, 16 or 64 KiB granules.
 *
 * A stage-2 table starts one level later where up to 16 tables side by side can take the place
 * of a top table of as many entries (Arm DDI 0487, D8.2, concatenated translation tables).
 * Attributes are those of the kernel's io-pgtable-arm.c (arm_lpae_prot_to_pte()), so that
 * tables can be compared bit by bit with those of a Linux guest.
 */

import {
  ATTR_INDEX_CACHE,
  ATTR_INDEX_DEVICE,
  ATTR_INDEX_NON_CACHEABLE,
  addressHi,
  addressLo,
  bitsPerLevel,
  blockAllowed,
  ENTRY_TABLE,
  entryAddress,
  entryKind,
  type GranuleLg2,
  HI_PXN,
  HI_SOFTWARE_SYNC,
  HI_UXN,
  LAST_LEVEL,
  LO_AF,
  LO_AP_READ_ONLY,
  LO_AP_UNPRIVILEGED,
  LO_ATTR_INDEX_MASK,
  LO_ATTR_INDEX_SHIFT,
  LO_NOT_GLOBAL,
  LO_NS,
  LO_S2_MEM_ATTR_MASK,
  LO_S2_MEM_ATTR_SHIFT,
  LO_S2_READ,
  LO_S2_WRITE,
  LO_SH_MASK,
  LO_SH_SHIFT,
  leafAttributesHi,
  leafSizesBytes,
  leafType,
  levelSizeLg2,
  S2_MEM_ATTR_DEVICE,
  S2_MEM_ATTR_NON_CACHEABLE,
  S2_MEM_ATTR_WRITE_BACK,
  SHAREABILITY_INNER,
  SHAREABILITY_OUTER,
  stage1AttributesLo,
  stage2AttributesLo,
  stage2StartIsLegal,
  startLevel,
  topTableEntries,
} from "#arch/lpae";
import { assert, type PhysicalAddress } from "#machine";
import type { EntryKind, TableFormat } from "./format.js";
import { Protection } from "./tlb.js";

/** Tables side by side at the start of stage 2, at most. */
const CONCATENATED_MAX = 16;

/** MemAttr of stage 2 is as wide as AttrIndx and NS, and S2AP lies where AP does. */
const LO_ATTRIBUTES =
  LO_ATTR_INDEX_MASK |
  LO_NS |
  LO_AP_UNPRIVILEGED |
  LO_AP_READ_ONLY |
  LO_SH_MASK |
  LO_AF |
  LO_NOT_GLOBAL;

/** The contiguous hint is left behind: it promises neighbours that a split takes away. */
const HI_ATTRIBUTES = HI_PXN | HI_UXN;

export type LpaeStage = 1 | 2;

export interface LpaeGeometry {
  readonly stage: LpaeStage;
  readonly granuleLg2: GranuleLg2;
  /** Bits of IOVA (stage 2: IPA) translated, at most 48 (52 with 64 KiB granules). */
  readonly inputBits: number;
  /** Bits of physical address put out. */
  readonly outputBits: number;
  readonly coherentWalk: boolean;
}

export class LpaeFormat implements TableFormat {
  readonly name: string;
  readonly stage: LpaeStage;
  readonly lastLevel = LAST_LEVEL;
  readonly topLevel: number;
  readonly topEntries: number;
  readonly tableEntries: number;
  readonly spanBytes: readonly number[];
  readonly leafBytes: readonly number[];
  readonly pageSizesBytes: readonly number[];
  readonly lastIova: number;
  readonly lastPaddr: number;
  readonly writtenBackHi: number;
  readonly #granuleLg2: GranuleLg2;
  readonly #outputBits: number;
  readonly #spanLg2: readonly number[];

  constructor({ stage, granuleLg2, inputBits, outputBits, coherentWalk }: LpaeGeometry) {
    // Addresses are numbers below 2^53, and a table has at least one level of one bit.
    assert(inputBits > granuleLg2 && inputBits <= 52, "IOVAs have more bits than a page, up to 52");
    assert(outputBits > granuleLg2 && outputBits <= 52, "output addresses have up to 52 bits");
    const levels = [0, 1, 2, 3];
    this.name = `Arm LPAE stage ${stage}`;
    this.stage = stage;
    this.#granuleLg2 = granuleLg2;
    this.#outputBits = outputBits;
    this.#spanLg2 = levels.map((level) => levelSizeLg2(granuleLg2, level));
    const start = startLevel(granuleLg2, inputBits);
    assert(start >= 0, `four levels resolve ${inputBits} bits of IOVA`);
    const startEntries = topTableEntries(granuleLg2, inputBits);
    this.tableEntries = 2 ** bitsPerLevel(granuleLg2);
    // Linux 6.12 concatenates where it saves level 0 (arm_64_lpae_alloc_pgtable_s2()); newer
    // kernels do too where the architecture asks for it, on machines too small for the level
    // (arm_lpae_concat_mandatory()).
    const isTooHigh = start === 0 || !stage2StartIsLegal(granuleLg2, inputBits, start, outputBits);
    const concatenates = stage === 2 && isTooHigh && startEntries <= CONCATENATED_MAX;
    this.topLevel = concatenates ? start + 1 : start;
    this.topEntries = concatenates ? startEntries * this.tableEntries : startEntries;
    this.spanBytes = this.#spanLg2.map((spanLg2) => 2 ** spanLg2);
    this.leafBytes = levels.map((level) =>
      level >= this.topLevel &&
      (level === LAST_LEVEL || blockAllowed(granuleLg2, level, outputBits))
        ? this.spanBytes[level]
        : 0,
    );
    this.pageSizesBytes = leafSizesBytes(granuleLg2, outputBits).filter((size) =>
      this.leafBytes.includes(size),
    );
    this.lastIova = 2 ** inputBits - 1;
    this.lastPaddr = 2 ** outputBits - 1;
    this.writtenBackHi = coherentWalk ? 0 : HI_SOFTWARE_SYNC;
  }

  entryKind(lo: number, level: number): EntryKind {
    // The layout numbers the kinds as `format.ts` does, so none is converted per entry.
    return entryKind(lo, level, this.#granuleLg2, this.#outputBits);
  }

  tableAddress(lo: number, hi: number): PhysicalAddress {
    return entryAddress(lo, hi, this.#granuleLg2, this.#granuleLg2);
  }

  leafAddress(lo: number, hi: number, level: number): PhysicalAddress {
    return entryAddress(lo, hi, this.#granuleLg2, this.#spanLg2[level]);
  }

  tableEntryLo(table: PhysicalAddress): number {
    return (addressLo(table, this.#granuleLg2) | ENTRY_TABLE) >>> 0;
  }

  tableEntryHi(table: PhysicalAddress): number {
    return addressHi(table);
  }

  leafLo(attributesLo: number, paddr: PhysicalAddress): number {
    return (addressLo(paddr, this.#granuleLg2) | attributesLo) >>> 0;
  }

  leafHi(attributesHi: number, paddr: PhysicalAddress): number {
    return addressHi(paddr) | attributesHi;
  }

  attributesLo(protection: number, level: number): number {
    const cacheable = (protection & Protection.cache) !== 0;
    const device = (protection & Protection.mmio) !== 0;
    const writable = (protection & Protection.write) !== 0;
    const shareability = cacheable ? SHAREABILITY_INNER : SHAREABILITY_OUTER;
    if (this.stage === 2) {
      const cached = cacheable ? S2_MEM_ATTR_WRITE_BACK : S2_MEM_ATTR_NON_CACHEABLE;
      const memAttr = device ? S2_MEM_ATTR_DEVICE : cached;
      const readable = (protection & Protection.read) !== 0;
      return leafType(level) | stage2AttributesLo(readable, writable, memAttr, shareability);
    }
    const cached = cacheable ? ATTR_INDEX_CACHE : ATTR_INDEX_NON_CACHEABLE;
    const attrIndex = device ? ATTR_INDEX_DEVICE : cached;
    const privileged = (protection & Protection.privileged) !== 0;
    return leafType(level) | stage1AttributesLo(writable, privileged, attrIndex, shareability);
  }

  attributesHi(protection: number): number {
    return leafAttributesHi((protection & Protection.noExecute) === 0);
  }

  attributesOfLeafLo(lo: number, level: number): number {
    return (lo & LO_ATTRIBUTES) | leafType(level);
  }

  attributesOfLeafHi(hi: number): number {
    return hi & HI_ATTRIBUTES;
  }

  protectionOf(lo: number, hi: number): number {
    // Shareability tells cacheability: it is inner for cacheable leaves of any kind.
    const inner = (lo & LO_SH_MASK) >>> LO_SH_SHIFT === SHAREABILITY_INNER;
    const common =
      (inner ? Protection.cache : 0) |
      ((hi & HI_ATTRIBUTES) === HI_ATTRIBUTES ? Protection.noExecute : 0);
    if (this.stage === 2) {
      const memAttr = (lo & LO_S2_MEM_ATTR_MASK) >>> LO_S2_MEM_ATTR_SHIFT;
      return (
        common |
        ((lo & LO_S2_READ) !== 0 ? Protection.read : 0) |
        ((lo & LO_S2_WRITE) !== 0 ? Protection.write : 0) |
        (memAttr === S2_MEM_ATTR_DEVICE ? Protection.mmio : 0)
      );
    }
    const attrIndex = (lo & LO_ATTR_INDEX_MASK) >>> LO_ATTR_INDEX_SHIFT;
    return (
      common |
      Protection.read |
      ((lo & LO_AP_READ_ONLY) === 0 ? Protection.write : 0) |
      (attrIndex === ATTR_INDEX_DEVICE ? Protection.mmio : 0) |
      ((lo & LO_AP_UNPRIVILEGED) === 0 ? Protection.privileged : 0)
    );
  }
}
