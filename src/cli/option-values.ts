/** Values of flags that several commands have: modes, numbers of CPUs, sizes, times, queues. */

import { InvalidArgumentError } from "commander";
import type { CommandQueueKind } from "#drivers/smmuv3";
import { MODES, type Mode } from "#workloads";
import { parseCount } from "./count.js";

/** The timed machine's limit. */
const CPUS_MAX = 1024;
/** A sweep is looked at as a table. */
const SWEEP_MAX = 64;

/** How the command queue is shared: names for `--queue`. */
export const QUEUES: Readonly<Record<string, CommandQueueKind>> = {
  lockless: { kind: "lockless", reservation: "compare-exchange" },
  "fetch-add": { kind: "lockless", reservation: "fetch-add" },
  spinlock: { kind: "spinlock" },
  "ticket-lock": { kind: "spinlock", lock: "ticket" },
  "spinlock-merge": { kind: "spinlock", mergeSyncs: true },
};

export function parseModes(value: string): readonly Mode[] {
  const names = value.split(",").map((name) => name.trim());
  for (const name of names) {
    if (!MODES.includes(name as Mode)) {
      throw new InvalidArgumentError(`'${name}' is no mode; choose from ${MODES.join(", ")}.`);
    }
  }
  // In the order of the table, each once.
  return MODES.filter((mode) => names.includes(mode));
}

/** `1,2,4`: each once, as they come. */
export function parseCpuCounts(value: string): readonly number[] {
  const counts = value.split(",").map((part) => parseCount(part.trim(), 1, CPUS_MAX));
  if (counts.length > SWEEP_MAX) {
    throw new InvalidArgumentError(`it is a list of up to ${SWEEP_MAX} numbers.`);
  }
  return [...new Set(counts)];
}

const SIZE = /^(\d+)([kmg]?)(?:i?b)?$/i;
const SIZE_FACTORS: Readonly<Record<string, number>> = {
  "": 1,
  k: 2 ** 10,
  m: 2 ** 20,
  g: 2 ** 30,
};

/** As fio has them: 4k, 128k, 1m. */
export function parseSize(value: string, minBytes: number, maxBytes: number): number {
  const found = SIZE.exec(value);
  const bytes =
    found === null ? Number.NaN : Number(found[1]) * SIZE_FACTORS[found[2].toLowerCase()];
  if (!(bytes >= minBytes && bytes <= maxBytes)) {
    throw new InvalidArgumentError(`it is a size from ${minBytes} to ${maxBytes}, such as 4k.`);
  }
  return bytes;
}

const TIME = /^(\d+(?:\.\d+)?)(us|ms|s)?$/;
const TIME_FACTORS: Readonly<Record<string, number>> = { us: 1e3, ms: 1e6, s: 1e9 };

/** Seconds as fio has them, or with a unit: 1, 0.5, 100ms. Virtual nanoseconds. */
export function parseTime(value: string): number {
  const found = TIME.exec(value);
  const timeNs = found === null ? Number.NaN : Number(found[1]) * TIME_FACTORS[found[2] ?? "s"];
  if (!(timeNs >= TIME_NS_MIN && timeNs <= TIME_NS_MAX)) {
    throw new InvalidArgumentError("it is a time from 1ms to 1000s, such as 100ms or 1s.");
  }
  return timeNs;
}

/** Less than some media latencies measures nothing; more takes days of real time. */
const TIME_NS_MIN = 1e6;
const TIME_NS_MAX = 1000e9;
