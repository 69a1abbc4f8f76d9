/**
 * The few numbers of a profile that a DMA map benchmark can tell: how each changes the profile,
 * and which run tells it. They are fitted as factors on the base profile's numbers.
 */

import { extendProfile, fitted, type Profile, type ProfileChanges, type Quantity } from "#platform";

export interface FreeParameter {
  readonly name: string;
  readonly what: string;
  /** A representative number of it in the profile, for people. */
  readonly shownNs: (profile: Profile) => number;
  /** The run without which it stays unknown. */
  readonly neededRun: string;
}

/** In the order of the factors. */
export const FREE_PARAMETERS: readonly FreeParameter[] = [
  {
    name: "work",
    what: "computation of the DMA API (machine.workNs.dmaCall and its like)",
    shownNs: (profile) => profile.machine.workNs.dmaCall.value,
    neededRun: "a lazy run with -t 1",
  },
  {
    name: "sync",
    // The benchmark cannot tell one from the other.
    what: "an invalidation and its CMD_SYNC (smmu.invalidateAddressNs and smmu.syncNs)",
    shownNs: ({ smmu }) => smmu.invalidateAddressNs.value + smmu.syncNs.value,
    neededRun: "a strict run with -t 1",
  },
  {
    name: "transfer",
    what: "a contended line from CPU to CPU (machine.cpu.socketTransferNs and its like)",
    shownNs: (profile) => profile.machine.cpu.socketTransferNs.value,
    neededRun: "a strict run with -t 32, or as many threads as the machine has CPUs",
  },
];

const WORKS = [
  "dmaCall",
  "treeNode",
  "magazine",
  "pageTableLevel",
  "pageTableEntry",
  "command",
  "flushQueueEntry",
  "pageAllocation",
  "bitmapWord",
  "scatterSegment",
] as const;
const TRANSFERS = ["socketTransferNs", "remoteTransferNs"] as const;

/** What a profile says of itself when it was fitted to a user's runs. */
export interface FittedHead {
  readonly name: string;
  readonly description: string;
  readonly runs: string;
}

/** The numbers of `base` times the factors, in the order of `FREE_PARAMETERS`. */
export function changesOf(
  base: Profile,
  factors: readonly number[],
  head: FittedHead,
): ProfileChanges {
  const [work, sync, transfer] = factors;
  const { cpu, workNs } = base.machine;
  const times = ({ value, unit }: Quantity, factor: number): Quantity => ({
    value: Number((value * factor).toPrecision(4)),
    unit,
    provenance: fitted(head.runs),
  });
  return {
    name: head.name,
    description: head.description,
    machine: {
      cpu: Object.fromEntries(TRANSFERS.map((name) => [name, times(cpu[name], transfer)])),
      workNs: Object.fromEntries(WORKS.map((name) => [name, times(workNs[name], work)])),
    },
    smmu: {
      invalidateAddressNs: times(base.smmu.invalidateAddressNs, sync),
      syncNs: times(base.smmu.syncNs, sync),
    },
  };
}

export function withFactors(base: Profile, factors: readonly number[]): Profile {
  const { name, description } = base;
  return extendProfile(base, changesOf(base, factors, { name, description, runs: "a trial" }));
}
