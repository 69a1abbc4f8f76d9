/**
 * Where QEMU's SMMUv3 is not what the architecture asks for once stage 2 translates; what is
 * said at the head of differences.ts holds here too.
 */

import {
  ENTRY_BLOCK,
  ENTRY_TABLE,
  ENTRY_TYPE_MASK,
  granuleOfTg0,
  LAST_LEVEL,
  LO_AF,
  LO_S2_READ,
  LO_S2_WRITE,
  levelSizeLg2,
  outputSizeBits,
  stage2StartLevel,
} from "#arch/lpae";
import {
  Cd,
  type EventRecord,
  FaultClass,
  getAddress,
  getField,
  type KnownEvent,
  Ste,
  SteConfig,
  setField,
} from "#arch/smmuv3";
import type { QemuVersion } from "#machine/qemu";
import { type Difference, differencesOf } from "./differences.js";
import type { Entry, Image, Stage2Image } from "./image.js";

/** IDR5.OAS of both sides. */
const OAS = 44;

export const STAGE2_DIFFERENCES: readonly Difference[] = [
  {
    what: "an input range beyond the output size makes a stream table entry illegal",
    reason: "s2t0sz_valid compares S2T0SZ with S2PS; 5.2 has it compared with IAS, which is OAS",
    rewrite: (image) => {
      const inputBits = 64 - getField(image.ste, 0, Ste.S2T0SZ);
      if (!hasStage2(image) || inputBits <= stage2OutputBits(image)) return false;
      return makeIllegal(image);
    },
  },
  {
    what: "S1STALLD is looked at without stage 1",
    reason: "decode_ste does not ask whether stage 1 translates",
    rewrite: (image) => {
      if (getField(image.ste, 0, Ste.Config) !== SteConfig.stage2) return false;
      return getField(image.ste, 0, Ste.S1STALLD) === 1 && makeIllegal(image);
    },
  },
  {
    what: "an address beyond IAS is refused without an event where stage 1 is bypassed",
    reason: "the fault is stage 1's, and there is no CD.R that would have it recorded; 3.4 has it",
    accepts: ({ ours, theirs, image }) =>
      getField(image.ste, 0, Ste.Config) === SteConfig.stage2 &&
      theirs === undefined &&
      isFault(ours, "F_ADDR_SIZE", 0, FaultClass.input),
  },
  {
    what: "a stage-1 table beyond the output size is a fault of the table, not of the input",
    reason: "smmu_ptw says it of the address that it would have stage 2 translate",
    accepts: ({ ours, theirs }) =>
      isFault(ours, "F_ADDR_SIZE", 0, FaultClass.input) &&
      isFault(theirs, "F_ADDR_SIZE", 0, FaultClass.translationTable),
  },
  {
    what: "a read of what may only be written passes when a write has cached the leaf",
    reason: "smmu_translate looks at the permissions of a cached entry for writes alone",
    avoid: (image) => emptyCachesIf(image, allows(LO_S2_WRITE, LO_S2_READ)),
  },
  {
    what: "a write that stage 2 forbids is of stage 1 when a read has cached the leaf",
    reason: "smmu_translate takes the permissions of a cached entry for those of stage 1",
    avoid: (image) => emptyCachesIf(image, allows(LO_S2_READ, LO_S2_WRITE)),
  },
  {
    what: "the first table of stage 1 lies physically where CD.IPS leaves of its address",
    reason:
      "smmu_ptw_64_s1 cuts TTB, which decode_cd has translated before, to the size of outputs",
    avoid: (image) => {
      const outputBits = Math.min(OAS, outputSizeBits(getField(image.cd, 0, Cd.IPS)));
      const leaf = stage2Leaf(image, tableBase(image));
      if (getField(image.ste, 0, Ste.Config) !== SteConfig.nested) return false;
      const output = ((leaf?.hi ?? 0) & 0xffff) * 2 ** 32;
      const isRefused = output >= 2 ** stage2OutputBits(image);
      if (leaf === undefined || output < 2 ** outputBits || isRefused) return false;
      leaf.lo = 0;
      return true;
    },
  },
  {
    what: "a fault of stage 2 below a table of stage 1 says that it is of stage 1, and CD.R decides",
    reason: "smmu_ptw_64_s1 overwrites the stage that translate_table_addr_ipa has noted",
    accepts: ({ ours, theirs, image }) => {
      if (isTableAbort(ours, 1) && isTableAbort(theirs, 0)) {
        return isSameBut(ours, theirs, ["stage2", ...FETCH_FIELDS]);
      }
      const recordsStage1 = getField(image.cd, 0, Cd.R) === 1;
      const recordsStage2 = getField(image.ste, 0, Ste.S2R) === 1;
      if (!isTableFault(ours, 1) && !(ours === undefined && !recordsStage2)) return false;
      if (theirs === undefined) return ours !== undefined && !recordsStage1;
      if (!isTableFault(theirs, 0)) return false;
      return ours === undefined || isSameBut(ours, theirs, ["stage2", ...FETCH_FIELDS]);
    },
  },
  {
    what: "S2HA and S2HD are ignored",
    reason: "decode_ste_s2_cfg does not read them, though IDR0.HTTU is 0",
    rewrite: (image) => {
      const { ste } = image;
      const isSet = getField(ste, 0, Ste.S2HA) + getField(ste, 0, Ste.S2HD) > 0;
      setField(ste, 0, Ste.S2HA, 0);
      setField(ste, 0, Ste.S2HD, 0);
      return isSet && hasStage2(image);
    },
  },
  {
    what: "tables and descriptors may lie in Device memory whatever S2PTW says",
    reason: "decode_ste_s2_cfg does not read it",
    rewrite: (image) => {
      const isSet = getField(image.ste, 0, Ste.S2PTW) === 1;
      setField(image.ste, 0, Ste.S2PTW, 0);
      return isSet && getField(image.ste, 0, Ste.Config) === SteConfig.nested;
    },
  },
  {
    what: "a walk may start at a level whose table resolves nothing",
    reason: "s2_pgtable_config_valid counts concatenated tables, and one is enough for it",
    // Where that leads cannot be said in tables that are legal: both sides get another entry.
    avoid: (image) => {
      const { ste } = image;
      const granuleLg2 = granuleOfTg0(getField(ste, 0, Ste.S2TG));
      if (granuleLg2 === undefined || !hasStage2(image)) return false;
      const level = stage2StartLevel(granuleLg2, getField(ste, 0, Ste.S2SL0));
      const inputBits = 64 - getField(ste, 0, Ste.S2T0SZ);
      if (level < 0 || inputBits > levelSizeLg2(granuleLg2, level)) return false;
      return makeIllegal(image);
    },
  },
  {
    what: "what stage 2 forbids comes before an output beyond the output size",
    reason: "smmu_ptw_64_s2 compares with S2PS last; the architecture puts size before the others",
    accepts: ({ ours, theirs }) =>
      ours?.name === "F_ADDR_SIZE" && ours.stage2 === 1 && theirs?.name === "F_PERMISSION",
  },
  {
    what: "tables of stage 2 beyond the output size are read, where nothing answers",
    reason: "smmu_ptw_64_s2 compares leaves with S2PS, and not the tables",
    accepts: ({ ours, theirs, image }) => {
      if (theirs?.name !== "F_WALK_EABT") return false;
      if (theirs.fetchAddress < 2 ** stage2OutputBits(image)) return false;
      if (ours === undefined) return getField(image.ste, 0, Ste.S2R) === 0;
      return ours.name === "F_ADDR_SIZE" && ours.stage2 === 1;
    },
  },
  {
    what: "both TTB0 and TTB1 are translated as soon as the context descriptor is read",
    reason: "decode_cd does it, and the configuration is no good when either cannot be",
    // The half that is not used leads nowhere in these tests.
    avoid: (image) => {
      const { cd } = image;
      const unused = image.firstIova < 0 ? Cd.EPD0 : Cd.EPD1;
      const isOn = getField(cd, 0, unused) === 0;
      if (!isOn || getField(image.ste, 0, Ste.Config) !== SteConfig.nested) return false;
      setField(cd, 0, unused, 1);
      return true;
    },
    // Its fault comes before any of the address, and says RnW of the fetch.
    accepts: ({ ours, theirs, image }) => {
      const isOutside = isFault(ours, "F_TRANSLATION", 0, FaultClass.input);
      if (theirs === undefined) {
        const isQuiet = getField(image.ste, 0, Ste.S2R) === 0;
        return isQuiet && isOutside && stage2Refuses(image, tableBase(image));
      }
      const isAbort = isTableAbort(theirs, 1);
      const isOfBase = isTableFault(theirs, 1) && theirs.ipa === tableBase(image);
      if (!isAbort && !isOfBase) return false;
      if (ours === undefined) return getField(image.cd, 0, Cd.R) === 0;
      return isOutside || isSameBut(ours, theirs, FETCH_FIELDS);
    },
  },
  {
    what: "a table of stage 1 lies physically where its first byte does, as a whole",
    reason: "translate_table_addr_ipa is asked once per table; stage 2 may have smaller pages",
    avoid: (image) => {
      const { stage2, granuleLg2 } = image;
      if (stage2 === undefined || stage2.granuleLg2 >= granuleLg2) return false;
      let changed = false;
      for (const entry of stage2.entries.values()) {
        if (entry.level !== LAST_LEVEL) continue;
        const first = entry.iova - (entry.iova % 2 ** granuleLg2);
        const model = [...stage2.entries.values()].find(
          (of) => of.level === LAST_LEVEL && of.iova === first,
        );
        if (model === undefined) continue;
        const lo = model.lo + (entry.iova - first);
        changed ||= lo !== entry.lo || model.hi !== entry.hi;
        entry.lo = lo;
        entry.hi = model.hi;
      }
      return changed;
    },
  },
  {
    what: "RnW is that of the fetch where stage 2 faults for a context descriptor",
    reason: "smmu_get_cd asks for a read; 7.3.13 has the input's in the record",
    record: (ours) =>
      isFaultOf(ours, FaultClass.contextDescriptor) && ours.read === 0
        ? { ...ours, read: 1 }
        : ours,
  },
];

/** A record that says for what, of this. */
function isFaultOf(
  record: EventRecord,
  faultClass: FaultClass,
): record is Extract<KnownEvent, { readonly faultClass: number }> {
  return "faultClass" in record && record.faultClass === faultClass;
}

/** What a record says of the table that QEMU has fetched as a whole, and for what access. */
const FETCH_FIELDS = ["read", "ipa", "tableRead", "fetchAddress"] as const;

/** A table of stage 2 that cannot be read, below a table of stage 1. */
function isTableAbort(record: EventRecord | undefined, stage2: 0 | 1): record is KnownEvent {
  return isFault(record, "F_WALK_EABT", stage2, FaultClass.translationTable);
}

/** Where the half that is used has its first table. */
function tableBase({ cd, firstIova }: Image): number {
  return getAddress(cd, 0, firstIova < 0 ? Cd.TTB1 : Cd.TTB0);
}

/** The leaf of stage 2 for an intermediate address. */
function stage2Leaf({ stage2 }: Image, ipa: number): Entry | undefined {
  return [...(stage2?.entries.values() ?? [])].find((entry) => {
    const bytes = 2 ** levelSizeLg2((stage2 as Stage2Image).granuleLg2, entry.level);
    const isLeaf = entry.level === LAST_LEVEL || (entry.lo & ENTRY_TYPE_MASK) !== ENTRY_TABLE;
    return isLeaf && ipa >= entry.iova && ipa < entry.iova + bytes;
  });
}

/** Whether stage 2 keeps the tables of stage 1 from being read there, or might. */
function stage2Refuses(image: Image, ipa: number): boolean {
  const leaf = stage2Leaf(image, ipa);
  const needed = LO_AF | LO_S2_READ | ENTRY_BLOCK;
  return leaf === undefined || (leaf.lo & needed) !== needed || leaf.hi !== 0;
}

/** One of the four faults, below a table of stage 1. */
function isTableFault(
  record: EventRecord | undefined,
  stage2: 0 | 1,
): record is Extract<KnownEvent, { readonly stallTag: number }> {
  if (record === undefined || !("stallTag" in record)) return false;
  return record.stage2 === stage2 && record.faultClass === FaultClass.translationTable;
}

function isSameBut(a: EventRecord, b: EventRecord, fields: readonly string[]): boolean {
  const without = (record: EventRecord): string =>
    JSON.stringify(Object.entries(record).filter(([name]) => !fields.includes(name)));
  return without(a) === without(b);
}

/** Leaves that allow one and not the other. */
function allows(one: number, other: number): (entry: Entry) => boolean {
  return ({ lo }) => (lo & one) !== 0 && (lo & other) === 0;
}

/** It is the order of accesses that brings it about: caches are emptied between them. */
function emptyCachesIf(image: Image, test: (entry: Entry) => boolean): boolean {
  if (image.cold || image.stage2 === undefined) return false;
  image.cold = [...image.stage2.entries.values()].some(test);
  return image.cold;
}

function isFault(
  record: EventRecord | undefined,
  name: EventRecord["name"],
  stage2: 0 | 1,
  faultClass: FaultClass,
): boolean {
  if (record?.name !== name || !("faultClass" in record)) return false;
  return record.stage2 === stage2 && record.faultClass === faultClass;
}

function stage2OutputBits({ ste }: Image): number {
  return Math.min(OAS, outputSizeBits(getField(ste, 0, Ste.S2PS)));
}

function hasStage2({ ste }: Image): boolean {
  return getField(ste, 0, Ste.V) === 1 && getField(ste, 0, Ste.Config) >= SteConfig.stage2;
}

function makeIllegal({ ste }: Image): boolean {
  setField(ste, 0, Ste.V, 0);
  return true;
}

/** The differences of one version where stage 2 may translate. */
export function stage2DifferencesOf(version: QemuVersion): readonly Difference[] {
  return [...STAGE2_DIFFERENCES, ...differencesOf(version)];
}
