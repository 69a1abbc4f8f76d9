/** The comparison for people: what was replayed, a table of the modes, findings. */

import Table from "cli-table3";
import pc from "picocolors";
import type { Histogram, ReplayResult } from "#workloads";
import { printable } from "./printable.js";
import type { ReplayOutcome } from "./replay-job.js";
import { opsPerSecond } from "./report-json.js";
import { thousands } from "./thousands.js";

const HEAD = [
  "mode",
  "ops/s",
  "CPU ns/op",
  "map ns\nmean p50 p99",
  "unmap ns\nmean p50 p99",
  "TLBI",
  "SYNC",
  "flushes",
  "IOTLB\nhits",
];

/** Names of devices in the header: a line or two. */
const NAMES_MAX = 8;

export function textReport(outcome: ReplayOutcome): string {
  const colour = pc.createColors(process.stdout.isTTY === true && !isWithoutColour());
  const table = new Table({
    head: HEAD,
    colAligns: ["left", ...HEAD.slice(1).map(() => "right" as const)],
    style: { head: [], border: [], compact: true },
  });
  for (const result of outcome.results) table.push(rowOf(result));
  const lines = [...headerOf(outcome).map((line) => colour.dim(printable(line))), table.toString()];
  for (const { mode, bottleneck } of outcome.results) {
    lines.push(`what limits ${mode}: ${bottleneck.text}`);
  }
  for (const { message, isProblem } of outcome.findings) {
    const said = printable(message);
    lines.push(isProblem ? colour.red(`problem: ${said}`) : `note: ${said}`);
  }
  return `${lines.join("\n")}\n`;
}

/** By https://no-color.org: present, and not empty. */
function isWithoutColour(): boolean {
  return (process.env["NO_COLOR"] ?? "") !== "";
}

function headerOf({ header, statistics, survey, plan }: ReplayOutcome): string[] {
  const format =
    header.version === undefined ? header.format : `${header.format} v${header.version}`;
  const cpus = plan.cpus ?? survey.cpus;
  const pace = plan.pace === "closed" ? "closed loop" : "paced as captured";
  const names = [...survey.devices].map((name) => (name === "" ? "(unnamed)" : name));
  if (names.length > NAMES_MAX)
    names.splice(NAMES_MAX - 1, Infinity, `and ${names.length - NAMES_MAX + 1} more`);
  return [
    `${header.file}: ${format}, ${statistics.events} events in ` +
      `${(survey.durationNs / 1e9).toFixed(2)} s, ${survey.maps} maps and ${survey.unmaps} unmaps, ` +
      `${count(survey.cpus, "CPU")}, ${names.join(" ")}`,
    `replayed on ${count(cpus, "virtual CPU")}, profile ${plan.profile.name}, smmuv3, ${pace}; ` +
      "times are virtual",
  ];
}

function rowOf(result: ReplayResult): string[] {
  const operations = result.maps + result.unmaps;
  const { hits, misses } = result.iotlb;
  const flushes = result.flushes.byFullQueue + result.flushes.byTimer;
  return [
    result.mode,
    thousands(opsPerSecond(result)),
    operations === 0 ? "-" : thousands(result.busyNs / operations),
    latency(result.mapLatency),
    latency(result.unmapLatency),
    thousands(tlbInvalidations(result)),
    thousands(result.invalidations["CMD_SYNC"] ?? 0),
    thousands(flushes),
    hits + misses === 0 ? "-" : `${((hits * 100) / (hits + misses)).toFixed(1)} %`,
  ];
}

function tlbInvalidations({ invalidations }: ReplayResult): number {
  return Object.entries(invalidations)
    .filter(([name]) => name.startsWith("CMD_TLBI_"))
    .reduce((sum, [, count]) => sum + count, 0);
}

function latency(histogram: Histogram): string {
  const { meanNs } = histogram;
  return [meanNs, histogram.quantileNs(0.5), histogram.quantileNs(0.99)].map(thousands).join(" ");
}

function count(number: number, noun: string): string {
  return `${number} ${noun}${number === 1 ? "" : "s"}`;
}
