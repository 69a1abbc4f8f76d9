/**
 * `node bench/explore/spin.js`: the command queue checked by our search and by SPIN, on a model
 * of the same protocol, with the same faults. Needs `spin` and `gcc` (Debian: apt install both).
 *
 * The two do different things: SPIN stores the states of a model that somebody wrote, ours
 * runs the driver's own code from the beginning for every execution and stores none. Seconds are
 * of CPU time: other work on the host does not count.
 */

import { spawnSync } from "node:child_process";
import { copyFileSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import {
  DporScheduler,
  EVENTS_MAX,
  findHarness,
  findMutant,
  loadMutant,
  Search,
} from "../../dist/explore/index.js";
import { cpuSecondsOf } from "../measure.js";

const MODEL = fileURLToPath(new URL("command-queue.pml", import.meta.url));
const MUTANTS = [
  "owner-publishes-before-valid",
  "owner-takes-no-turn",
  "valid-sense-does-not-turn",
  "owned-flag-stays",
  "everybody-owns",
  "no-exchange-check",
  "sync-not-waited-for",
];

const folder = mkdtempSync(join(tmpdir(), "iommukit-spin-"));
const rows = [];
try {
  copyFileSync(MODEL, join(folder, "model.pml"));
  for (const name of [undefined, ...MUTANTS])
    rows.push({ name, ...ours(await room(name)), ...spin(name) });
  // For the rates: enough to do that what happens once does not count.
  const long = ours(await room(), "command-queue-two-lists");
  rows.push({ name: "(two lists each, as it is)", ...long, ...spin(undefined, 2) });
} finally {
  rmSync(folder, { recursive: true, force: true });
}

console.log(`${spinVersion()}; Node ${process.version}; gcc -O2`);
const OURS = ["executions", "CPU s", "1/s"];
const SPIN = ["states", "transitions", "CPU s", "states/s"];
print(["", "ours", ...OURS, "SPIN", ...SPIN]);
for (const row of rows) {
  print([
    row.name ?? "(as it is)",
    row.oursFound ? "found" : row.isComplete ? "clean" : "cut",
    row.executions,
    row.oursSeconds.toFixed(3),
    Math.round(row.executions / row.oursSeconds),
    row.spinFound ? "found" : "clean",
    row.states,
    row.transitions,
    row.spinSeconds.toFixed(3),
    Math.round(row.states / row.spinSeconds),
  ]);
}
const differs = rows.filter(({ oursFound, spinFound }) => oursFound !== spinFound);
console.log(
  differs.length === 0 ? "both find the same" : `they differ on ${differs.map(({ name }) => name)}`,
);
process.exitCode = differs.length === 0 ? 0 : 1;

async function room(name) {
  if (name === undefined) return { DporScheduler, Search, findHarness };
  return await loadMutant(findMutant(name));
}

function ours({ DporScheduler, Search, findHarness }, harness = "command-queue") {
  const search = new Search(findHarness(harness), new DporScheduler(EVENTS_MAX));
  let result;
  const oursSeconds = cpuSecondsOf(() => {
    result = search.run();
  });
  const { executions, pruned, violation, isComplete } = result;
  // The execution that breaks the rule is not among those that broke none.
  const found = violation !== undefined;
  return {
    oursFound: found,
    isComplete,
    executions: executions + pruned + (found ? 1 : 0),
    oursSeconds,
  };
}

/** The verifier's own CPU time, without the seconds that it takes to be made. */
function spin(name, lists = 1) {
  const define = [`-DLISTS=${lists}`];
  if (name !== undefined) define.push(`-D${name.toUpperCase().replaceAll("-", "_")}`);
  run("spin", [...define, "-a", "model.pml"]);
  run("gcc", ["-O2", "-w", "-o", "pan", "pan.c"]);
  const said = run("sh", ["-c", "./pan -m100000 && times"]);
  return {
    spinFound: number(said, /errors: (\d+)/) > 0,
    states: number(said, /(\d+) states, stored/),
    transitions: number(said, /(\d+) transitions/),
    spinSeconds: childSeconds(said),
  };
}

/** User and system time of the shell's children: the last line that `times` prints. */
function childSeconds(said) {
  const times = said
    .trim()
    .split("\n")
    .at(-1)
    .matchAll(/(\d+)m([\d.]+)s/g);
  return [...times].reduce((sum, [, minutes, seconds]) => sum + minutes * 60 + Number(seconds), 0);
}

function run(command, args) {
  const result = spawnSync(command, args, { cwd: folder, encoding: "utf8" });
  if (result.error?.code === "ENOENT") {
    console.error(`${command} is not installed; on Debian: apt install spin gcc`);
    process.exit(2);
  }
  if (result.status !== 0) {
    console.error(`${command} failed:\n${result.stdout}${result.stderr}`);
    process.exit(1);
  }
  return result.stdout;
}

function number(text, pattern) {
  return Number(pattern.exec(text)?.[1] ?? Number.NaN);
}

function spinVersion() {
  return spawnSync("spin", ["-V"], { encoding: "utf8" }).stdout.trim();
}

function print([name, ...columns]) {
  const rest = columns.map((column) => String(column).padStart(12)).join("");
  console.log(`${name.padEnd(30)}${rest}`);
}
