/**
 * A cost profile: what one kind of machine charges for every access, with the
 * provenance of each number beside it.
 */

import type { MachineCosts, WorkName } from "#machine";

export type Provenance =
  /** From a publication or a data sheet, named. */
  | { readonly kind: "quoted"; readonly source: string }
  /** Solved for so that named measurements come out. */
  | { readonly kind: "fitted"; readonly to: string }
  /** An engineer's estimate, with the reason. */
  | { readonly kind: "assumed"; readonly reason: string };

/** One number of a profile. Times are nanoseconds; counts are plain. */
export interface Quantity {
  readonly value: number;
  readonly unit: "ns" | "count";
  readonly provenance: Provenance;
}

/** What the SMMU of the machine takes by itself (see the model's timing), in nanoseconds. */
export interface SmmuCosts {
  readonly commandFetchNs: number;
  readonly invalidateConfigurationNs: number;
  readonly invalidateAddressNs: number;
  readonly invalidateTagNs: number;
  readonly syncNs: number;
  readonly iotlbHitNs: number;
  readonly walkStepNs: number;
}

type Quantities<Costs> = {
  readonly [Key in keyof Costs]: Costs[Key] extends number ? Quantity : Quantities<Costs[Key]>;
};

export interface Profile {
  readonly name: string;
  readonly description: string;
  readonly machine: Quantities<Omit<MachineCosts, "workNs">> & {
    readonly workNs: Readonly<Record<WorkName, Quantity>>;
  };
  readonly smmu: Quantities<SmmuCosts>;
}

/** The profile's numbers without their provenance, as the timed machine takes them. */
export function machineCosts(profile: Profile): MachineCosts {
  const { cpu, register, device, timerTickNs, workNs } = profile.machine;
  return {
    timerTickNs: timerTickNs.value,
    cpu: values(cpu),
    register: values(register),
    device: values(device),
    workNs: values(workNs),
  };
}

export function smmuCosts(profile: Profile): SmmuCosts {
  return values(profile.smmu);
}

function values<Key extends string>(group: Readonly<Record<Key, Quantity>>): Record<Key, number> {
  const entries = Object.entries<Quantity>(group).map(([key, { value }]) => [key, value] as const);
  return Object.fromEntries(entries) as Record<Key, number>;
}
