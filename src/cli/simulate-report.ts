/** What a simulation came to: a table with a verdict for people, JSON and CSV for machines. */

import Table from "cli-table3";
import pc from "picocolors";
import { type AnyPlan, type SimulationResult, verdictOf } from "#workloads";
import type { CommonFlags } from "./simulate-command.js";
import { whyText } from "./simulate-why.js";

const HEAD = [
  "CPUs",
  "mode",
  "/s",
  "MB/s",
  "latency us\nmean p50 p99",
  "CPU\nbusy",
  "CPU ns\neach",
  "map\nns",
  "unmap\nns",
  "what limits",
];
/** Columns of words. */
const LEFT = new Set([1, HEAD.length - 1]);
const LIMIT_WIDTH = 34;

/** A run as machines read it; the same fields in JSON and CSV. */
interface Row {
  readonly cpus: number;
  readonly mode: string;
  readonly perSecond: number;
  readonly bytesPerSecond: number;
  readonly latencyMeanNs: number;
  readonly latencyP50Ns: number;
  readonly latencyP99Ns: number;
  readonly cpuUtilisation: number;
  readonly cpuNsPerRequest: number;
  readonly mapNs: number;
  readonly unmapNs: number;
  readonly interrupts: number;
  readonly iotlbHits: number;
  readonly iotlbMisses: number;
  readonly iovaTreeAllocations: number;
  readonly iovaTreeFrees: number;
  readonly errors: number;
  readonly limit: string;
  readonly limitText: string;
}

export function simulationReport(
  kind: AnyPlan["kind"],
  flags: CommonFlags,
  plans: readonly AnyPlan[],
  results: readonly SimulationResult[],
): string {
  if (flags.json === true) return jsonReport(kind, plans, results);
  if (flags.csv === true) return csvReport(results);
  return textReport(plans, results);
}

function jsonReport(
  kind: string,
  plans: readonly AnyPlan[],
  results: readonly SimulationResult[],
): string {
  const [{ profile, mode: _mode, cpus: _cpus, ...plan }] = plans;
  const runs = results.map((result) => ({
    ...rowOf(result),
    commands: result.commands,
    resources: result.resources,
    ...(result.why === undefined ? {} : { why: result.why }),
  }));
  const verdicts = byCpus(results).map(([cpus, group]) => ({
    cpus,
    verdict: verdictOf(group) ?? null,
  }));
  const report = { kind, plan: { ...plan, profile: profile.name }, runs, verdicts };
  return `${JSON.stringify(report, undefined, 2)}\n`;
}

function csvReport(results: readonly SimulationResult[]): string {
  const rows = results.map(rowOf);
  const names = Object.keys(rows[0]) as (keyof Row)[];
  const lines = rows.map((row) => names.map((name) => field(row[name])).join(","));
  return `${[names.join(","), ...lines].join("\n")}\n`;
}

/** Text is quoted where it has to be (RFC 4180). */
function field(value: string | number): string {
  const text = String(value);
  return /[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

function rowOf(result: SimulationResult): Row {
  const { latencyNs, iotlb, iovaTree, bottleneck } = result;
  return {
    cpus: result.cpus,
    mode: result.mode,
    perSecond: Math.round(result.perSecond),
    bytesPerSecond: Math.round(result.bytesPerSecond),
    latencyMeanNs: Math.round(latencyNs.mean),
    latencyP50Ns: Math.round(latencyNs.p50),
    latencyP99Ns: Math.round(latencyNs.p99),
    cpuUtilisation: Math.round(result.cpuUtilisation * 1e4) / 1e4,
    cpuNsPerRequest: Math.round(result.cpuNsPerRequest),
    mapNs: Math.round(result.mapNs),
    unmapNs: Math.round(result.unmapNs),
    interrupts: result.interrupts,
    iotlbHits: iotlb.hits,
    iotlbMisses: iotlb.misses,
    iovaTreeAllocations: iovaTree.allocations,
    iovaTreeFrees: iovaTree.frees,
    errors: result.errors,
    limit: bottleneck.kind,
    limitText: bottleneck.text,
  };
}

function textReport(plans: readonly AnyPlan[], results: readonly SimulationResult[]): string {
  const colour = pc.createColors(process.stdout.isTTY === true && !isWithoutColour());
  const table = new Table({
    head: HEAD,
    colAligns: HEAD.map((_, column) => (LEFT.has(column) ? "left" : "right")),
    colWidths: HEAD.map((_, column) => (column === HEAD.length - 1 ? LIMIT_WIDTH : null)),
    wordWrap: true,
    style: { head: [], border: [], compact: true },
  });
  for (const result of results) table.push(cellsOf(result));
  const lines = [colour.dim(headerOf(plans[0])), table.toString()];
  for (const [cpus, group] of byCpus(results)) {
    const verdict = verdictOf(group);
    if (verdict !== undefined) lines.push(`${cpus} ${cpus === 1 ? "CPU" : "CPUs"}: ${verdict}`);
  }
  if (plans[0].why) for (const [cpus, group] of byCpus(results)) lines.push(whyText(cpus, group));
  const errors = results.reduce((sum, result) => sum + result.errors, 0);
  if (errors > 0) lines.push(colour.red(`problem: ${errors} requests ended with an error`));
  return `${lines.join("\n")}\n`;
}

/** By https://no-color.org: present, and not empty. */
function isWithoutColour(): boolean {
  return (process.env["NO_COLOR"] ?? "") !== "";
}

function headerOf(plan: AnyPlan): string {
  const { devices, smmus, profile, runtimeNs } = plan;
  const what =
    plan.kind === "nvme"
      ? `${plan.rw} of ${plan.blockBytes} bytes, ${plan.iodepth} in flight per job`
      : `${plan.test} with messages of ${plan.messageBytes} bytes`;
  const device = plan.kind === "nvme" ? "drive" : "adapter";
  return (
    `${what}, ${devices} ${device}${devices === 1 ? "" : "s"} on ${smmus} ` +
    `SMMU${smmus === 1 ? "" : "s"}, profile ${profile.name}, ${runtimeNs / 1e6} ms each; ` +
    "times are virtual"
  );
}

function cellsOf(result: SimulationResult): string[] {
  const { latencyNs } = result;
  const us = (timeNs: number): string => (timeNs / 1000).toFixed(0);
  return [
    String(result.cpus),
    result.mode,
    thousands(result.perSecond),
    thousands(result.bytesPerSecond / 1e6),
    [latencyNs.mean, latencyNs.p50, latencyNs.p99].map(us).join(" "),
    `${(100 * result.cpuUtilisation).toFixed(0)} %`,
    thousands(result.cpuNsPerRequest),
    thousands(result.mapNs),
    thousands(result.unmapNs),
    result.bottleneck.text,
  ];
}

function byCpus(
  results: readonly SimulationResult[],
): readonly (readonly [number, SimulationResult[]])[] {
  const groups = new Map<number, SimulationResult[]>();
  for (const result of results) {
    const group = groups.get(result.cpus);
    if (group === undefined) groups.set(result.cpus, [result]);
    else group.push(result);
  }
  return [...groups];
}

/** Whole, in groups of three: 14,000. */
function thousands(value: number): string {
  return Math.round(value)
    .toString()
    .replace(/\B(?=(\d{3})+$)/g, ",");
}
