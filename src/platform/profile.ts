/** The numbers of a profile without their provenance, in the forms that their users take. */

import type { MachineCosts } from "#machine";
import type { Quantity } from "./quantity.js";
import type { Profile } from "./schema.js";

/** The numbers of one group, by name. */
export type Values<Group> = { readonly [Name in keyof Group]: number };

export type SmmuCosts = Values<Profile["smmu"]>;
export type IoCosts = Values<Profile["io"]>;
export type NvmeParameters = Values<Profile["nvme"]>;
export type NicParameters = Values<Profile["nic"]>;
export type EndpointParameters = Values<Profile["endpoint"]>;
export type LinkParameters = Values<Profile["link"]>;

/** What the timed machine takes. */
export function machineCosts(profile: Profile): MachineCosts {
  const { cpu, register, device, timerTickNs, workNs } = profile.machine;
  return {
    timerTickNs: timerTickNs.value,
    cpu: valuesOf(cpu),
    register: valuesOf(register),
    device: valuesOf(device),
    workNs: valuesOf(workNs),
  };
}

export function smmuCosts(profile: Profile): SmmuCosts {
  return valuesOf(profile.smmu);
}

/** The plain numbers of a group, as `valuesOf(profile.nvme)`. */
export function valuesOf<Name extends string>(
  group: Readonly<Record<Name, Quantity>>,
): Record<Name, number> {
  const entries = Object.entries<Quantity>(group).map(
    ([name, { value }]) => [name, value] as const,
  );
  return Object.fromEntries(entries) as Record<Name, number>;
}
