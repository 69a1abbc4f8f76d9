/**
 * The schema of a profile: types and checks in one place. A profile from a file is checked
 * against it after it has been merged into the one that it extends (see parse.ts).
 */

import { z } from "zod";
import type { Quantity, Unit } from "./quantity.js";
import {
  CPU_UNITS,
  DEVICE_UNITS,
  ENDPOINT_UNITS,
  IO_UNITS,
  LINK_UNITS,
  NIC_UNITS,
  NVME_UNITS,
  REGISTER_UNITS,
  SMMU_UNITS,
  SYSTEM_UNITS,
  WORK_UNITS,
} from "./units.js";

/** A day: whoever means that has the wrong unit. */
const NS_MAX = 86_400e9;
/** What an ordinary number can count without gaps, with room for products. */
const COUNT_MAX = 2 ** 40;

const text = z.string().min(1).max(4000);

const provenance = z.discriminatedUnion("kind", [
  z.strictObject({ kind: z.literal("quoted"), source: text }),
  z.strictObject({ kind: z.literal("fitted"), to: text }),
  z.strictObject({ kind: z.literal("assumed"), reason: text }),
]);

const VALUES: Readonly<Record<Unit, z.ZodNumber>> = {
  ns: z.number().min(0).max(NS_MAX),
  count: z.int().min(1).max(COUNT_MAX),
  bytes: z.int().min(0).max(COUNT_MAX),
  flag: z.int().min(0).max(1),
  "bytes/ns": z.number().positive().max(COUNT_MAX),
};

/** Numbers that have to be more than their unit asks for. */
const FIELDS: Readonly<Record<string, z.ZodNumber>> = {
  // The cache is found by the low bits of a line's number.
  cacheLines: z
    .int()
    .min(64)
    .max(2 ** 24),
  cpus: z.int().min(1).max(1024),
  smmus: z.int().min(1).max(64),
};

function quantity(name: string, unit: Unit) {
  return z.strictObject({
    value: FIELDS[name] ?? VALUES[unit],
    unit: z.literal(unit),
    provenance,
  }) as unknown as z.ZodType<Quantity>;
}

function group<const Units extends Readonly<Record<string, Unit>>>(units: Units) {
  const fields = Object.entries(units).map(([name, unit]) => [name, quantity(name, unit)] as const);
  return z.strictObject(Object.fromEntries(fields)) as unknown as z.ZodType<{
    readonly [Name in keyof Units]: Quantity;
  }>;
}

/** What servers have; see `CpuCosts.lineBytes`. */
const LINE_SIZES = [64, 128];

const isPowerOfTwo = (value: number): boolean => Number.isInteger(Math.log2(value));

const cpu = group(CPU_UNITS)
  .refine(({ cacheLines }) => isPowerOfTwo(cacheLines.value), {
    path: ["cacheLines", "value"],
    message: "has to be a power of two",
  })
  .refine(({ lineBytes }) => LINE_SIZES.includes(lineBytes.value), {
    path: ["lineBytes", "value"],
    message: `has to be ${LINE_SIZES.join(" or ")}`,
  });

export const profileSchema = z.strictObject({
  name: z
    .string()
    .regex(/^[a-z0-9][a-z0-9._-]{0,63}$/, "has to be of a-z, 0-9, '.', '_' and '-', 64 at most"),
  description: text,
  system: group(SYSTEM_UNITS),
  machine: z.strictObject({
    cpu,
    register: group(REGISTER_UNITS),
    device: group(DEVICE_UNITS),
    /** Period of the kernel's tick; 0: timers are exact. */
    timerTickNs: quantity("timerTickNs", "ns"),
    workNs: group(WORK_UNITS),
  }),
  smmu: group(SMMU_UNITS),
  io: group(IO_UNITS),
  nvme: group(NVME_UNITS),
  nic: group(NIC_UNITS),
  endpoint: group(ENDPOINT_UNITS),
  link: group(LINK_UNITS),
});

type DeepReadonly<T> = { readonly [Key in keyof T]: DeepReadonly<T[Key]> };

/**
 * A cost profile: what one kind of machine charges for every access, and what its devices
 * are like, with the provenance of each number beside it.
 */
export type Profile = DeepReadonly<z.infer<typeof profileSchema>>;
