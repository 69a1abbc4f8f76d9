/**
 * `node bench/explore/spin.js`: the command queue checked by our search and by SPIN, on a model
 * of the same protocol, with the same faults. Needs `spin` and `gcc` (Debian: apt install both).
 *
 * The two do different things: SPIN stores the states of a model that somebody wrote, ours
 * runs the driver's own code from the beginning for every execution and stores none.
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

const LONG_EXECUTIONS = 200_000;

const folder = mkdtempSync(join(tmpdir(), "iommukit-spin-"));
const rows = [];
try {
  copyFileSync(MODEL, join(folder, "model.pml"));
  for (const name of [undefined, ...MUTANTS])
    rows.push({ name, ...ours(await room(name)), ...spin(name) });
  // For the rates: enough to do that what happens once does not count.
  const long = ours(await room(), "command-queue-two-lists", LONG_EXECUTIONS);
  rows.push({ name: "(two lists each, as it is)", ...long, ...spin(undefined, 2) });
} finally {
  rmSync(folder, { recursive: true, force: true });
}

console.log(`${spinVersion()}; Node ${process.version}; gcc -O2`);
print(["", "ours", "executions", "s", "1/s", "SPIN", "states", "transitions", "s", "states/s"]);
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

function ours({ DporScheduler, Search, findHarness }, harness = "command-queue", executionsMax) {
  const scheduler = new DporScheduler(EVENTS_MAX);
  const began = performance.now();
  const { executions, pruned, violation, isComplete } = new Search(
    findHarness(harness),
    scheduler,
    {
      executionsMax,
    },
  ).run();
  const oursSeconds = (performance.now() - began) / 1000;
  // The execution that breaks the rule is not counted as one that went to its end.
  const found = violation !== undefined;
  return {
    oursFound: found,
    isComplete,
    executions: executions + pruned + (found ? 1 : 0),
    oursSeconds,
  };
}

/** The verifier's own time, without the seconds that it takes to be made. */
function spin(name, lists = 1) {
  const define = [`-DLISTS=${lists}`];
  if (name !== undefined) define.push(`-D${name.toUpperCase().replaceAll("-", "_")}`);
  run("spin", [...define, "-a", "model.pml"]);
  run("gcc", ["-O2", "-w", "-o", "pan", "pan.c"]);
  const began = performance.now();
  const said = run("./pan", ["-m100000"]);
  const spinSeconds = (performance.now() - began) / 1000;
  return {
    spinFound: number(said, /errors: (\d+)/) > 0,
    states: number(said, /(\d+) states, stored/),
    transitions: number(said, /(\d+) transitions/),
    spinSeconds,
  };
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
