/**
 * Where QEMU 7.2's SMMUv3 is not what the architecture asks for, with the reason for each.
 * This is the whole of what the differential tests overlook.
 *
 * A difference of the tables is a *rewrite*: the model is shown them as QEMU understands
 * them, and everything must then be the same, byte for byte. A difference of what is
 * recorded says which of our events QEMU's may stand for; bytes still have to be the same.
 * Every difference has to be seen: one that QEMU no longer has fails the test.
 */

import {
  EntryKind,
  entryKind,
  HI_AP_TABLE_NO_UNPRIVILEGED,
  HI_AP_TABLE_READ_ONLY,
  LO_AF,
  LO_AP_UNPRIVILEGED,
} from "#arch/lpae";
import {
  Cd,
  type EventRecord,
  effectiveSplit,
  getField,
  Ste,
  StreamL1,
  StreamWorld,
  setField,
} from "#arch/smmuv3";
import type { Entry, Image } from "./image.js";

/** The version that the table is of. */
export const TABLE_IS_OF = { major: 7, minor: 2 } as const;

export interface Refusal {
  /** What the model recorded; undefined: nothing. */
  readonly ours: EventRecord | undefined;
  readonly theirs: EventRecord | undefined;
  readonly iova: number;
  readonly write: boolean;
}

export interface Difference {
  readonly what: string;
  readonly reason: string;
  /** Changes the model's image to what QEMU sees; returns whether there was anything to change. */
  readonly rewrite?: (image: Image) => boolean;
  /** Whether the two records stand for the same refusal; never when they are equal. */
  readonly accepts?: (refusal: Refusal) => boolean;
  /** Our record as QEMU writes it. */
  readonly record?: (ours: EventRecord) => EventRecord;
}

/** Output of a level that has 48 bits at most. */
const OUTPUT_BITS = 48;
/** The region that QEMU puts in front of a device ends there (smmu-common.c, SMMU_MAX_VA_BITS). */
const REGION_LAST = 2 ** 48 - 1;

export const DIFFERENCES: readonly Difference[] = [
  {
    what: "a clear access flag is taken for a set one",
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
    what: "a write that a table forbids is refused at that table, whatever lies below",
    reason: "APTable is checked on the way down; the architecture faults for what is found first",
    accepts: ({ ours, theirs, write }) =>
      write &&
      theirs?.name === "F_PERMISSION" &&
      (ours?.name === "F_TRANSLATION" ||
        ours?.name === "F_ADDR_SIZE" ||
        ours?.name === "F_WALK_EABT"),
  },
  {
    what: "a write that a table forbids passes when a read has cached the leaf",
    reason: "the IOTLB keeps the leaf's own AP without what the tables above it forbid",
    // On both sides, for it is the order of accesses that brings it about.
    rewrite: (image) => {
      if (image.cold || ![...image.entries.values()].some(forbidsWrites)) return false;
      image.cold = true;
      return true;
    },
  },
  {
    what: "outputs beyond the output size go out, where nothing answers",
    reason: "smmu_ptw_64 does not compare with IPS: no F_ADDR_SIZE from leaves or tables",
    accepts: ({ ours, theirs }) =>
      ours?.name === "F_ADDR_SIZE" && (theirs === undefined || theirs.name === "F_WALK_EABT"),
  },
  {
    what: "a write through a read-only leaf beyond the output size is a permission fault",
    reason: "as above: the size, which comes first, is not looked at",
    accepts: ({ ours, theirs, write }) =>
      write && ours?.name === "F_ADDR_SIZE" && theirs?.name === "F_PERMISSION",
  },
  {
    what: "blocks are taken at levels that have none",
    reason: "is_reserved_pte knows level 3 only; in these tests such blocks lead nowhere",
    accepts: ({ ours, theirs, write }) =>
      ours?.name === "F_TRANSLATION" &&
      (theirs === undefined || (write && theirs.name === "F_PERMISSION")),
  },
  {
    what: "S1STALLD makes a stream table entry illegal",
    reason: "decode_ste calls it unimplemented; without a stall model it has no meaning",
    rewrite: ({ ste }) => changeField(ste, Ste.S1STALLD, isSet, () => setField(ste, 0, Ste.V, 0)),
  },
  {
    what: "any stream world is taken for NS-EL1",
    reason: "decode_ste does not read STRW, though there is no EL2 (IDR0.HYP)",
    rewrite: ({ ste }) =>
      changeField(ste, Ste.STRW, isSet, () => setField(ste, 0, Ste.STRW, StreamWorld.nsEl1)),
  },
  {
    what: "HA or HD makes a context descriptor illegal",
    reason: "decode_cd refuses them; our model ignores what IDR0.HTTU = 0 reserves",
    rewrite: ({ cd }) => {
      const flag = (): void => setField(cd, 0, Cd.V, 0);
      return changeField(cd, Cd.HA, isSet, flag) || changeField(cd, Cd.HD, isSet, flag);
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
    what: "a StreamID beyond its level-2 table is a bad entry, not a bad StreamID",
    reason: "smmu_find_ste records C_BAD_STE",
    accepts: ({ ours, theirs }) => ours?.name === "C_BAD_STREAMID" && theirs?.name === "C_BAD_STE",
  },
  {
    what: "addresses of 2^48 and more do not reach the SMMU",
    reason: "its memory region ends there: the access is refused without an event",
    accepts: ({ theirs, iova }) => theirs === undefined && iova > REGION_LAST,
  },
  {
    what: "CLASS is 0 in faults of the input address",
    reason: "smmuv3_translate leaves it out of all but F_WALK_EABT",
    record: (ours) =>
      "faultClass" in ours && ours.faultClass === 2 ? { ...ours, faultClass: 0 } : ours,
  },
  {
    what: "TTRnW is 0 when a table could not be read",
    reason: "smmuv3_record_event does not know the bit",
    record: (ours) =>
      "tableRead" in ours && ours.tableRead === 1 ? { ...ours, tableRead: 0 } : ours,
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
  of: (typeof Cd)["HA"],
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
