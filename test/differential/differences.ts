/**
 * Where the SMMUv3 of QEMU 7.2 and 10.0 is not what the architecture asks for, with the reason for each.
 * This is the whole of what the differential tests overlook.
 *
 * What brings QEMU down, or cannot be told apart otherwise, is *avoided* on both sides.
 * A difference of the tables is a *rewrite*: the model is shown them as QEMU understands
 * them, and everything must then be the same, byte for byte. A difference of what is
 * recorded says which of our events QEMU's may stand for; bytes still have to be the same.
 * Every difference has to be seen: one that QEMU no longer has fails the test.
 *
 * What the scenarios keep clear of altogether, and why:
 * - TTB1 with 7.2, which looks for zeros where ones belong (select_tt), and so takes TTB1 for
 *   addresses of the lower half that TTB0 does not cover;
 * - IPS of 6 and 7: 7.2 makes a shift by a negative number of them (oas2bits);
 * - LOG2SIZE so large that the table cannot be aligned to it: QEMU aligns the base without
 *   regard to SIDSIZE (smmu_find_ste);
 * - tagged addresses (TBI), which our model does not implement;
 * - substreams, ATS, PRI and stalls, which QEMU does not have;
 * - stage 2 here: it has scenarios and a table of its own (stage2-differences.ts);
 * - RECINVSID = 0: QEMU records unknown StreamIDs whatever CR2 says.
 */

import {
  ENTRY_BLOCK,
  ENTRY_TYPE_MASK,
  EntryKind,
  entryKind,
  HI_AP_TABLE_NO_UNPRIVILEGED,
  HI_AP_TABLE_READ_ONLY,
  LO_AF,
  LO_AP_READ_ONLY,
  LO_AP_UNPRIVILEGED,
} from "#arch/lpae";
import {
  Cd,
  type EventRecord,
  effectiveSplit,
  type Field,
  getField,
  Ste,
  SteConfig,
  StreamL1,
  setField,
} from "#arch/smmuv3";
import { isOlderQemu as isOlder, type QemuVersion } from "#machine/qemu";
import { covering, type Entry, type Image, isReserved } from "./image.js";

/** The versions that the table was made with; others may differ in other ways. */
export const TABLE_IS_OF: readonly QemuVersion[] = [
  { major: 7, minor: 2 },
  { major: 10, minor: 0 },
];

export interface Refusal {
  /** What the model recorded; undefined: nothing. */
  readonly ours: EventRecord | undefined;
  readonly theirs: EventRecord | undefined;
  readonly iova: number;
  readonly write: boolean;
  /** What CD.IPS allows. */
  readonly outputBits: number;
  readonly image: Image;
}

export interface Difference {
  readonly what: string;
  readonly reason: string;
  /** Versions of QEMU that have been seen with it; all of `TABLE_IS_OF` where not given. */
  readonly isIn?: (version: QemuVersion) => boolean;
  /** Changes what both sides get, where nothing else helps; returns whether it changed anything. */
  readonly avoid?: (image: Image) => boolean;
  /** Changes the model's image to what QEMU sees; returns whether there was anything to change. */
  readonly rewrite?: (image: Image) => boolean;
  /** Whether the two records stand for the same refusal; never when they are equal. */
  readonly accepts?: (refusal: Refusal) => boolean;
  /** Our record as QEMU writes it. */
  readonly record?: (ours: EventRecord) => EventRecord;
}

/** The differences of one version. */
export function differencesOf(version: QemuVersion): readonly Difference[] {
  return DIFFERENCES.filter(({ isIn }) => isIn?.(version) ?? true);
}

function isOld(version: QemuVersion): boolean {
  return isOlder(version, { major: 10, minor: 0 });
}

function isNew(version: QemuVersion): boolean {
  return !isOld(version);
}

/** Whether TTB1 works: see the head of this file. */
export const hasUpperHalf = isNew;

/** Output of a level that has 48 bits at most. */
const OUTPUT_BITS = 48;
/** The region that QEMU puts in front of a device ends there (smmu-common.c, SMMU_MAX_VA_BITS). */
const REGION_LAST = 2 ** 48 - 1;

const DIFFERENCES: readonly Difference[] = [
  {
    what: "a clear access flag is taken for a set one",
    isIn: isOld,
    reason: "smmu_ptw_64 has no check of AF; CD.AFFD is not read either",
    rewrite: (image) => changeLeaves(image, (entry) => set(entry, LO_AF)),
  },
  {
    what: "privileged-only leaves can be reached by unprivileged accesses",
    reason: "of AP only bit 1 (read only) is looked at, in leaves and in APTable",
    rewrite: (image) => {
      const leaves = changeLeaves(image, (entry) => set(entry, LO_AP_UNPRIVILEGED));
      return changeTables(image, (entry) => clearHi(entry, HI_AP_TABLE_NO_UNPRIVILEGED)) || leaves;
    },
  },
  {
    what: "a write that is not permitted is refused before anything else is found wrong",
    reason: "APTable is checked on the way down, AP without a look at the output's size",
    accepts: (refusal) =>
      refusal.write &&
      (refusal.theirs?.name === "F_PERMISSION" || isQuiet(refusal)) &&
      hasName(refusal.ours, "F_TRANSLATION", "F_ADDR_SIZE", "F_ACCESS", "F_WALK_EABT", undefined) &&
      covering(refusal.image, refusal.iova).some(
        (entry) => forbidsWrites(entry) || isReadOnly(entry),
      ),
  },
  {
    what: "a write that a table forbids passes when a read has cached the leaf",
    reason: "the IOTLB keeps the leaf's own AP without what the tables above it forbid",
    // It is the order of accesses that brings it about: caches are emptied between them.
    avoid: (image) => {
      if (image.cold || ![...image.entries.values()].some(forbidsWrites)) return false;
      image.cold = true;
      return true;
    },
  },
  {
    what: "outputs beyond the output size go out, where nothing answers",
    isIn: isOld,
    reason: "smmu_ptw_64 does not compare the leaf with IPS",
    accepts: ({ ours, theirs }) => ours?.name === "F_ADDR_SIZE" && theirs === undefined,
  },
  {
    what: "a clear access flag comes before an output beyond the output size",
    isIn: isNew,
    reason: "smmu_ptw_64_s1 looks at AF first; the architecture puts size before access",
    accepts: ({ ours, theirs }) => ours?.name === "F_ADDR_SIZE" && theirs?.name === "F_ACCESS",
  },
  {
    what: "tables beyond the output size are read, where nothing answers",
    reason: "as above; and F_WALK_EABT is recorded even where CD.R = 0 keeps F_ADDR_SIZE back",
    accepts: ({ ours, theirs, outputBits }) =>
      (ours === undefined || ours.name === "F_ADDR_SIZE") &&
      theirs?.name === "F_WALK_EABT" &&
      theirs.fetchAddress >= 2 ** outputBits,
  },
  {
    what: "blocks are taken at levels that have none",
    reason: "is_reserved_pte knows level 3 only; in these tests such blocks lead nowhere",
    accepts: (refusal) =>
      refusal.ours?.name === "F_TRANSLATION" &&
      hasName(refusal.theirs, undefined, "F_ACCESS", "F_ADDR_SIZE") &&
      covering(refusal.image, refusal.iova).some(
        ({ lo, level }) =>
          (lo & ENTRY_TYPE_MASK) === ENTRY_BLOCK && isReserved(refusal.image.granuleLg2, level),
      ),
  },
  {
    what: "a stage-2 entry without AArch64 tables ends the process",
    isIn: isNew,
    reason: "decode_ste_s2_cfg takes S2AA64 = 0 for impossible (seen in 10.0.2: an assertion)",
    avoid: ({ ste }) => {
      const config = getField(ste, 0, Ste.Config);
      if (getField(ste, 0, Ste.V) === 0 || config < SteConfig.stage2) return false;
      if (getField(ste, 0, Ste.S2AA64) === 1) return false;
      setField(ste, 0, Ste.Config, SteConfig.stage1);
      return true;
    },
  },
  {
    what: "S1CDMax makes a stream table entry illegal, though there are no substreams",
    reason: "decode_ste calls it unimplemented; without SSIDSIZE it has no meaning",
    rewrite: ({ ste }) => {
      if (getField(ste, 0, Ste.Config) < SteConfig.stage1) return false;
      return changeField(ste, Ste.S1CDMax, isSet, () => setField(ste, 0, Ste.V, 0));
    },
  },
  {
    what: "a level-2 stream table has twice the entries that its Span says",
    reason: "smmu_find_ste compares with 2^Span - 1, and with no limit by SPLIT",
    rewrite: (image) => {
      const span = getField(image.l1, 0, StreamL1.Span);
      const spanMax = effectiveSplit(image.split) + 1;
      if (!image.twoLevel || span === 0 || span === spanMax) return false;
      setField(image.l1, 0, StreamL1.Span, Math.min(span + 1, spanMax));
      return true;
    },
  },
  {
    what: "a reserved SPLIT is a number of bits all the same",
    reason: "smmu_writel keeps it as it is: with 0, every StreamID has a level-1 entry of its own",
    rewrite: (image) => {
      if (!image.twoLevel || image.split !== 0) return false;
      setField(image.l1, 0, StreamL1.Span, 0);
      return true;
    },
  },
  {
    what: "a StreamID beyond its level-2 table is a bad entry, not a bad StreamID",
    reason: "smmu_find_ste records C_BAD_STE",
    accepts: ({ ours, theirs }) => ours?.name === "C_BAD_STREAMID" && theirs?.name === "C_BAD_STE",
  },
  {
    what: "addresses of 2^48 and more do not reach the SMMU",
    isIn: isOld,
    reason: "its memory region ends there: the access is refused without an event",
    accepts: ({ theirs, iova }) => theirs === undefined && iova > REGION_LAST,
  },
  {
    what: "CLASS is 0 in faults of the input address",
    isIn: isOld,
    reason: "smmuv3_translate leaves it out of all but F_WALK_EABT",
    record: (ours) =>
      "faultClass" in ours && ours.faultClass === 2 ? { ...ours, faultClass: 0 } : ours,
  },
  {
    what: "F_CD_FETCH does not say where",
    reason: "smmuv3_record_event writes the address into another field than the one defined",
    record: (ours) => (ours.name === "F_CD_FETCH" ? { ...ours, fetchAddress: 0 } : ours),
  },
];

function isSet(value: number): boolean {
  return value !== 0;
}

function changeField(
  words: Uint32Array,
  of: Field,
  applies: (value: number) => boolean,
  change: () => void,
): boolean {
  if (!applies(getField(words, 0, of))) return false;
  change();
  return true;
}

function set(entry: Entry, bit: number): boolean {
  if ((entry.lo & bit) !== 0) return false;
  entry.lo = (entry.lo | bit) >>> 0;
  return true;
}

function clearHi(entry: Entry, bit: number): boolean {
  if ((entry.hi & bit) === 0) return false;
  entry.hi = (entry.hi & ~bit) >>> 0;
  return true;
}

function hasName(record: EventRecord | undefined, ...names: (string | undefined)[]): boolean {
  return names.includes(record?.name);
}

/** Nothing recorded, as CD.R = 0 has it for all faults of the walk but F_WALK_EABT. */
function isQuiet({ theirs, image }: Refusal): boolean {
  return theirs === undefined && getField(image.cd, 0, Cd.R) === 0;
}

function isReadOnly(entry: Entry): boolean {
  return (entry.lo & LO_AP_READ_ONLY) !== 0;
}

function forbidsWrites(entry: Entry): boolean {
  return (entry.lo & 3) === 3 && entry.level < 3 && (entry.hi & HI_AP_TABLE_READ_ONLY) !== 0;
}

function changeLeaves(image: Image, change: (entry: Entry) => boolean): boolean {
  return changeKind(image, EntryKind.leaf, change);
}

function changeTables(image: Image, change: (entry: Entry) => boolean): boolean {
  return changeKind(image, EntryKind.table, change);
}

function changeKind(image: Image, kind: EntryKind, change: (entry: Entry) => boolean): boolean {
  let changed = false;
  for (const entry of image.entries.values()) {
    if (entryKind(entry.lo, entry.level, image.granuleLg2, OUTPUT_BITS) !== kind) continue;
    changed = change(entry) || changed;
  }
  return changed;
}
