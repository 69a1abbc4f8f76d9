/** What a simulation came to: a table with a verdict for people, JSON and CSV for machines. */

import Table from "cli-table3";
import pc from "picocolors";
import { type AnyPlan, type Latency, type SimulationResult, verdictOf } from "#workloads";
import type { CommonFlags } from "./simulate-command.js";
import { whyText } from "./simulate-why.js";
import { thousands } from "./thousands.js";

/** A column of the table; `isExtra`: a terminal without room for all has to do without. */
interface Column {
  readonly head: string;
  readonly isExtra?: true;
  readonly isText?: true;
  readonly cell: (result: SimulationResult) => string;
}

function columnsOf(kind: AnyPlan["kind"]): readonly Column[] {
  // fio's words, or netperf's.
  const latency: readonly Column[] =
    kind === "nvme"
      ? [
          { head: "slat us\nmean", isExtra: true, cell: ({ slatNs }) => us(slatNs?.mean ?? 0) },
          { head: "clat us\nmean p50 p99", cell: ({ clatNs }) => latencyCell(clatNs) },
        ]
      : [{ head: "latency us\nmean p50 p99", cell: ({ latencyNs }) => latencyCell(latencyNs) }];
  return [
    { head: "CPUs", cell: ({ cpus }) => String(cpus) },
    { head: "mode", isText: true, cell: ({ mode }) => mode },
    { head: "/s", cell: ({ perSecond }) => thousands(perSecond) },
    { head: "± %", cell: halfWidthCell },
    { head: "MB/s", isExtra: true, cell: (run) => thousands(run.bytesPerSecond / 1e6) },
    ...latency,
    {
      head: "CPU\nbusy",
      isExtra: true,
      cell: (run) => `${(100 * run.cpuUtilisation).toFixed(0)} %`,
    },
    { head: "CPU ns\neach", cell: (run) => thousands(run.cpuNsPerRequest) },
    { head: "map\nns", cell: (run) => thousands(run.mapNs) },
    { head: "unmap\nns", cell: (run) => thousands(run.unmapNs) },
  ];
}

const LIMIT_WIDTH = 34;

/** A run as machines read it; the same fields in JSON and CSV, for all runs of a kind. */
type Row = Readonly<Record<string, number | string>>;

export function simulationReport(
  kind: AnyPlan["kind"],
  flags: CommonFlags,
  plans: readonly AnyPlan[],
  results: readonly SimulationResult[],
): string {
  if (flags.json === true) return jsonReport(kind, plans, results);
  if (flags.csv === true) return csvReport(kind, results);
  return textReport(plans, results);
}

function jsonReport(
  kind: AnyPlan["kind"],
  plans: readonly AnyPlan[],
  results: readonly SimulationResult[],
): string {
  const [{ profile, mode: _mode, cpus: _cpus, ...plan }] = plans;
  const runs = results.map((result) => ({
    ...rowOf(kind, result),
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

function csvReport(kind: AnyPlan["kind"], results: readonly SimulationResult[]): string {
  const rows = results.map((result) => rowOf(kind, result));
  const names = Object.keys(rows[0]);
  const lines = rows.map((row) => names.map((name) => field(row[name])).join(","));
  return `${[names.join(","), ...lines].join("\n")}\n`;
}

/** Text is quoted where it has to be (RFC 4180). */
function field(value: string | number): string {
  const text = String(value);
  return /[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

function rowOf(kind: AnyPlan["kind"], result: SimulationResult): Row {
  const { latencyNs, slatNs, clatNs, iotlb, iovaTree, bottleneck } = result;
  return {
    cpus: result.cpus,
    mode: result.mode,
    perSecond: Math.round(result.perSecond),
    perSecondHalfWidth: Math.round(result.perSecondHalfWidth),
    bytesPerSecond: Math.round(result.bytesPerSecond),
    ...(kind === "nvme"
      ? {
          ...latencyRow("slat", slatNs),
          ...latencyRow("clat", clatNs),
          ...latencyRow("lat", latencyNs),
        }
      : latencyRow("latency", latencyNs)),
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
    rampNs: result.rampNs,
    limit: bottleneck.kind,
    limitText: bottleneck.text,
  };
}

/** Nothing has completed where there is none. */
function latencyRow(name: string, latency: Latency = { mean: 0, p50: 0, p99: 0, max: 0 }): Row {
  const { mean, p50, p99, max } = latency;
  return {
    [`${name}MeanNs`]: Math.round(mean),
    [`${name}P50Ns`]: Math.round(p50),
    [`${name}P99Ns`]: Math.round(p99),
    [`${name}MaxNs`]: Math.round(max),
  };
}

function textReport(plans: readonly AnyPlan[], results: readonly SimulationResult[]): string {
  const colour = pc.createColors(process.stdout.isTTY === true && !isWithoutColour());
  // A pipe has no width.
  const room = process.stdout.columns ?? Number.POSITIVE_INFINITY;
  const lines = [colour.dim(headerOf(plans[0])), ...tableOf(plans[0].kind, results, room)];
  for (const [cpus, group] of byCpus(results)) {
    const verdict = verdictOf(group);
    if (verdict !== undefined) lines.push(`${cpus} ${cpus === 1 ? "CPU" : "CPUs"}: ${verdict}`);
  }
  if (plans[0].why) for (const [cpus, group] of byCpus(results)) lines.push(whyText(cpus, group));
  const errors = results.reduce((sum, result) => sum + result.errors, 0);
  if (errors > 0) lines.push(colour.red(`problem: ${errors} requests ended with an error`));
  return `${lines.join("\n")}\n`;
}

/**
 * The table, and below it what there is no room for: a terminal that breaks the lines of a table
 * shows none.
 */
export function tableOf(
  kind: AnyPlan["kind"],
  results: readonly SimulationResult[],
  room: number,
): string[] {
  const columns = columnsOf(kind);
  const limit: Column = {
    head: "what limits",
    isText: true,
    cell: ({ bottleneck }) => bottleneck.text,
  };
  const whole = drawn([...columns, limit], results, limit);
  if (widthOf(whole) <= room) return [whole];
  const limits = results.map(({ cpus, mode, bottleneck }) => `${cpus} ${mode}: ${bottleneck.text}`);
  const numbers = drawn(columns, results);
  if (widthOf(numbers) <= room) return [numbers, ...limits];
  const few = columns.filter(({ isExtra }) => isExtra !== true);
  return [drawn(few, results), ...limits];
}

function widthOf(table: string): number {
  return table.indexOf("\n");
}

function drawn(
  columns: readonly Column[],
  results: readonly SimulationResult[],
  wrapped?: Column,
): string {
  const table = new Table({
    head: columns.map(({ head }) => head),
    colAligns: columns.map(({ isText }) => (isText === true ? "left" : "right")),
    colWidths: columns.map((column) => (column === wrapped ? LIMIT_WIDTH : null)),
    wordWrap: true,
    style: { head: [], border: [], compact: true },
  });
  for (const result of results) table.push(columns.map(({ cell }) => cell(result)));
  return table.toString();
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

/** Of the rate; a hundred or more says that it is hardly known. */
function halfWidthCell({ perSecond, perSecondHalfWidth }: SimulationResult): string {
  if (perSecond === 0) return "-";
  const percent = (100 * perSecondHalfWidth) / perSecond;
  return percent.toFixed(percent < 9.95 ? 1 : 0);
}

function latencyCell(latency: Latency | undefined): string {
  if (latency === undefined) return "-";
  return [latency.mean, latency.p50, latency.p99].map(us).join(" ");
}

function us(timeNs: number): string {
  return timeNs < 9950 ? (timeNs / 1000).toFixed(1) : thousands(timeNs / 1000);
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
