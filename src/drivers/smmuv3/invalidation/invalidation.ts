/**
 * One thing that has to be invalidated when a domain's page table changes: a tag in the TLB
 * of an SMMU, or the translation cache of a device behind it (kernel: struct arm_smmu_inv,
 * 2026). Domains keep them in sorted arrays (`invalidation-array.ts`); masters build lists of
 * them when they come and go.
 */

import { assert } from "#machine";
import type { CommandSink } from "../command-queue/command-batch.js";
import type { InstanceFields } from "../command-queue/instance-fields.js";

/** What invalidations need of one SMMU. Instances are ordered by `index`, each of its own. */
export interface SmmuInstance extends CommandSink {
  readonly index: number;
  readonly name: string;
  /** It has range commands (IDR3.RIL). */
  readonly rangeInvalidation: boolean;
  /** Stage 1 is tagged as EL2's. */
  readonly e2h: boolean;
  /** What its invalidations read first; where not given, nothing. */
  readonly fields?: InstanceFields;
  /** Its queue is torn down: nothing may be sent any more. */
  isRemoved: boolean;
}

/** Kinds, in the order in which their commands must be given to one SMMU. */
export const InvalidationKind = {
  /** Stage 1, by ASID. */
  s1Asid: 0,
  /** Stage 2, by VMID. */
  s2Vmid: 1,
  /**
   * What a guest's stage 1 made of this stage 2: combined entries carry the guest's addresses,
   * so all stage-1 entries of the VMID have to go, after the stage-2 entries.
   */
  s2VmidS1Clear: 2,
  /** A device's ATC, by address and PASID. */
  ats: 3,
  /** A device's whole ATC: below nesting its addresses are the guest's. */
  atsFull: 4,
} as const;
export type InvalidationKind = (typeof InvalidationKind)[keyof typeof InvalidationKind];

/** Kinds by what they wait for: those of a later phase are issued after a CMD_SYNC. */
export const PHASE_COUNT = 3;
const PHASES = [0, 0, 1, 2, 2] as const;

export function phaseOf(kind: InvalidationKind): number {
  return PHASES[kind];
}

export interface Invalidation {
  readonly smmu: SmmuInstance;
  readonly kind: InvalidationKind;
  /** ASID, VMID or StreamID. */
  readonly id: number;
  /** Of ATS: 0 for requests without a PASID. 0 for all other kinds. */
  readonly ssid: number;
}

/** Order within arrays and lists: negative, 0 for the same thing, positive. */
export function compareInvalidations(a: Invalidation, b: Invalidation): number {
  if (a.smmu !== b.smmu) return a.smmu.index - b.smmu.index;
  if (a.kind !== b.kind) return a.kind - b.kind;
  return a.id !== b.id ? a.id - b.id : a.ssid - b.ssid;
}

export function isAts({ kind }: Invalidation): boolean {
  return kind >= InvalidationKind.ats;
}

/** An entry of a list; lists are reused, so its fields are written again and again. */
interface ListedInvalidation extends Invalidation {
  smmu: SmmuInstance;
  kind: InvalidationKind;
  id: number;
  ssid: number;
  /** After an unref: whether anybody else still uses it in the array. */
  isUsed: boolean;
}

/**
 * A master's scratch list, made when the device is first seen for the most that it can ever
 * hold, so that leaving a domain needs no memory (kernel: arm_smmu_master::build_invs).
 * Entries are added in ascending order.
 */
export class InvalidationList {
  readonly entries: readonly ListedInvalidation[];
  length = 0;

  /** For `capacity` entries, of `smmu` to begin with. */
  constructor(smmu: SmmuInstance, capacity: number) {
    this.entries = Array.from({ length: capacity }, () => ({
      smmu,
      kind: InvalidationKind.s1Asid,
      id: 0,
      ssid: 0,
      isUsed: false,
    }));
  }

  clear(): void {
    this.length = 0;
  }

  add(smmu: SmmuInstance, kind: InvalidationKind, id: number, ssid = 0): void {
    const entry = this.entries[this.length];
    assert(entry !== undefined, `a list holds at most ${this.entries.length} invalidations`);
    entry.smmu = smmu;
    entry.kind = kind;
    entry.id = id;
    entry.ssid = ssid;
    entry.isUsed = false;
    const before = this.entries[this.length - 1];
    assert(
      before === undefined || compareInvalidations(before, entry) < 0,
      "a list is built in ascending order",
    );
    this.length++;
  }
}
