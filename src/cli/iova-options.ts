/** Flags about the allocator of addresses, which several commands have. */

import { type Command, InvalidArgumentError, Option } from "commander";
import { type DepotPolicy, UNBOUNDED_DEPOT } from "#iova";
import { parseCount } from "./count.js";

export interface IovaFlags {
  readonly iovaDepot?: DepotPolicy;
  readonly age: number;
}

/** More of them hold more addresses than there are below 4 GiB. */
const MAGAZINES_MAX = 8192;
/** Some seconds of work; fills the caches of 128 CPUs with addresses of all sizes. */
const AGE_MAX = 500_000;

export function addIovaOptions(command: Command): Command {
  return command
    .addOption(
      new Option(
        "--iova-depot <n>",
        "full magazines of addresses per size that CPUs share: 32 in kernels before 6.7 " +
          "(default: unbounded)",
      ).argParser(parseDepot),
    )
    .addOption(
      new Option(
        "--age <n>",
        "addresses that were in use at once, on all CPUs, before the run; kernels get to 90000 " +
          "in days",
      )
        .default(0)
        .argParser((value) => parseCount(value, 0, AGE_MAX)),
    );
}

function parseDepot(value: string): DepotPolicy {
  if (value === "unbounded") return UNBOUNDED_DEPOT;
  const magazinesMax = Number(value);
  if (!/^\d+$/.test(value) || magazinesMax > MAGAZINES_MAX) {
    throw new InvalidArgumentError(
      `it is a number of magazines up to ${MAGAZINES_MAX}, or 'unbounded'.`,
    );
  }
  return { kind: "bounded", magazinesMax };
}

/** What plans and benchmarks take; `pages`: of what the load maps. */
export function iovaOptionsOf({ iovaDepot, age }: IovaFlags, pages: number) {
  return {
    ...(iovaDepot === undefined ? {} : { iovaDepot }),
    ...(age === 0 ? {} : { iovaAge: { ranges: age, pages } }),
  };
}
