/** What `iommukit check` prints: a line per search, and a counterexample as a table. */

import Table from "cli-table3";
import { type CheckReport, type Mutant, type Narration, sourceLineOf } from "#explore";

/** Wide enough for an operation and its cell. */
const AGENT_WIDTH_MAX = 34;
const SOURCE_FOLDER = /^src\//;

/** `mutant` is the fault that the code has. */
export function reportLine(report: CheckReport, mutant: string | undefined): string {
  const { harness, memoryModel, verdict, executions, pruned, depthMax, seconds } = report;
  const rate = seconds > 0 ? ` (${Math.round((executions + pruned) / seconds)}/s)` : "";
  const counts =
    `${executions} executions, ${pruned} pruned, up to ${depthMax} steps, ` +
    `${seconds.toFixed(1)} s${rate}`;
  const isClean = verdict === "clean" || verdict === "clean within bound";
  const unseen = isClean && mutant !== undefined ? `, ${mutant} is not found` : "";
  return `${harness} ${memoryModel}: ${verdictText(report, verdict)}${unseen}; ${counts}`;
}

function verdictText(report: CheckReport, verdict: CheckReport["verdict"]): string {
  switch (verdict) {
    case "clean":
      return "clean and complete";
    case "clean within bound":
      return `clean, complete for schedules${withinBound(report)} only`;
    case "violation":
      return "VIOLATION";
    case "goals missed":
      return `GOALS MISSED${withinBound(report)} (${report.goalsMissed.join("; ")})`;
    case "incomplete":
      return "not complete, nothing found so far";
  }
}

function withinBound({ preemptionsMax }: CheckReport): string {
  return preemptionsMax === undefined ? "" : ` with at most ${preemptionsMax} preemption(s)`;
}

/** A column per agent, a row per step, with its source line and what it saw or changed. */
export function narrationTable({ agents, steps, message }: Narration): string {
  const table = new Table({
    head: ["", ...agents, "source", "what is seen, what changes"],
    style: { head: [], border: [] },
    chars: { mid: "", "left-mid": "", "mid-mid": "", "right-mid": "" },
    wordWrap: true,
    colWidths: [5, ...agents.map((agent) => widthOf(agent, steps)), null, null],
  });
  steps.forEach((step, index) => {
    const columns = agents.map((agent) => (agent === step.agent ? step.what : ""));
    const source = step.source === "" ? "" : sourceLineOf(step.source).replace(SOURCE_FOLDER, "");
    table.push([index + 1, ...columns, source, step.changes.join("\n")]);
  });
  return `${table.toString()}\n${message ?? "no rule is broken"}`;
}

function widthOf(agent: string, steps: Narration["steps"]): number {
  const lengths = steps.filter((step) => step.agent === agent).map((step) => step.what.length);
  return Math.min(Math.max(agent.length, ...lengths) + 2, AGENT_WIDTH_MAX);
}

export function mutantLine({ name, breaks, harness, memoryModel }: Mutant): string {
  return `  ${name} (${harness}, ${memoryModel}): ${breaks}`;
}
