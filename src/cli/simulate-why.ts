/** Where the time of simulations went: tables for people, folded stacks for flame graphs. */

import Table from "cli-table3";
import type { SimulationResult, WhyReport } from "#workloads";
import { thousands } from "./thousands.js";

/** Lines shown per run: below that it is dust. */
const LINES_SHOWN = 3;

/** One table per number of CPUs: nanoseconds of CPU time per request, by purpose and mode. */
export function whyText(cpus: number, results: readonly SimulationResult[]): string {
  const runs = results.flatMap((result) =>
    result.why === undefined ? [] : [{ result, why: result.why }],
  );
  const purposes = new Set(runs.flatMap(({ why }) => Object.keys(why.purposes)));
  const largest = (purpose: string): number =>
    Math.max(
      ...runs.map(({ result, why }) => (why.purposes[purpose] ?? 0) / Math.max(1, result.count)),
    );
  const table = new Table({
    head: [
      `${cpus} CPU${cpus === 1 ? "" : "s"}: ns each`,
      ...runs.map(({ result }) => result.mode),
    ],
    colAligns: ["left", ...runs.map(() => "right" as const)],
    style: { head: [], border: [], compact: true },
  });
  for (const purpose of [...purposes].sort((a, b) => largest(b) - largest(a))) {
    const cells = runs.map(({ result, why }) => each(why.purposes[purpose] ?? 0, result));
    table.push([purpose, ...cells]);
  }
  table.push(["CPU time", ...runs.map(({ result, why }) => each(why.totalNs, result))]);
  table.push([
    "translation (device)",
    ...runs.map(({ result }) => each(result.translationNs, result)),
  ]);
  table.push(["IOTLB misses", ...runs.map(({ result }) => missesEach(result))]);
  table.push([
    "rbtree: IOVAs got, given",
    ...runs.map(({ result: { iovaTree, count } }) =>
      [iovaTree.allocations, iovaTree.frees].map((some) => ratio(some, count)).join(", "),
    ),
  ]);
  return [table.toString(), ...runs.map(({ result, why }) => linesText(result, why))].join("\n");
}

function each(ns: number, { count }: SimulationResult): string {
  return count === 0 ? "-" : thousands(ns / count);
}

function missesEach({ iotlb, count }: SimulationResult): string {
  return ratio(iotlb.misses, count);
}

function ratio(some: number, count: number): string {
  return count === 0 ? "-" : (some / count).toFixed(2);
}

function linesText({ mode, count }: SimulationResult, { lines }: WhyReport): string {
  const shown = lines.slice(0, LINES_SHOWN).map(({ name, transfers, ns }) => {
    const eachNs = thousands(ns / transfers);
    return `${name} (${ratio(transfers, count)} of ${eachNs} ns)`;
  });
  return `${mode}: lines fetched per request: ${shown.length === 0 ? "none" : shown.join(", ")}`;
}

/** `mode;CPUs;context;call;purpose;what nanoseconds`, as flame graph tools read it. */
export function foldedStacks(results: readonly SimulationResult[]): string {
  const lines = results.flatMap(({ mode, cpus, why, translationNs }) => {
    const head = `${mode};${cpus} CPUs`;
    const stacks = Object.entries(why?.stacks ?? {});
    return [...stacks, ["device;translation", translationNs] as const]
      .filter(([, ns]) => ns >= 1)
      .map(([stack, ns]) => `${head};${stack} ${Math.round(ns)}`);
  });
  return lines.length === 0 ? "" : `${lines.join("\n")}\n`;
}
