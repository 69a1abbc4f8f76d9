/**
 * `npm run bench`: runs the benchmarks of bench/ and prints what they came to; with `--json`
 * as JSON with the machine they ran on. Arguments name bench files: `npm run bench -- steps`.
 */

import { spawnSync } from "node:child_process";
import { cpus, loadavg } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { ensureBuilt, ensureInstalled, root } from "./ensure.js";

const FILES = ["dma-calls", "replay", "parsing", "steps", "explore"];

const asJson = process.argv.includes("--json");
const names = process.argv.slice(2).filter((argument) => argument !== "--json");
for (const name of names) {
  if (FILES.includes(name)) continue;
  console.error(`npm run bench: no benchmark ${name}; there are ${FILES.join(", ")}`);
  process.exit(2);
}

ensureInstalled();
ensureBuilt();

const machine = {
  node: process.version,
  cpu: cpus()[0]?.model ?? "unknown",
  cores: cpus().length,
  /** Others at work on the host when the benchmarks began: what is timed by the clock suffers. */
  loadAverage: loadavg()[0],
};
const results = [];
if (!asJson) {
  const { node, cpu, cores, loadAverage } = machine;
  console.log(`Node ${node}, ${cpu}, ${cores} cores, load ${loadAverage.toFixed(1)}`);
}
for (const name of names.length > 0 ? names : FILES) {
  const file = join(root, "bench", `${name}.js`);
  const { title, cases } = await import(pathToFileURL(file).href);
  if (!asJson) printHead(title);
  for (const benchmark of cases) {
    for (const row of runCase(name, benchmark.name)) {
      results.push({ benchmark: name, ...row });
      if (!asJson) printRow(row);
    }
  }
}
if (asJson) console.log(JSON.stringify({ machine, results }, undefined, 2));

/** Each case in a process of its own, whose standard output is its rows. */
function runCase(file, name) {
  const runner = join(root, "bench", "run-case.js");
  const result = spawnSync(process.execPath, [runner, `./${file}.js`, name], {
    encoding: "utf8",
    stdio: ["ignore", "pipe", "inherit"],
  });
  if (result.signal !== null) process.exit(130);
  if (result.status !== 0) process.exit(result.status ?? 1);
  return JSON.parse(result.stdout);
}

function printHead(title) {
  const columns = ["median", "low", "high"].map((column) => column.padStart(12)).join("");
  console.log(`\n${title.padEnd(44)}${columns}`);
}

function printRow({ name, unit, median, low, high, target }) {
  const numbers = [median, low, high].map((value) => shown(value).padStart(12)).join("");
  const verdict = target === undefined ? "" : targetText(median, high, target);
  console.log(`  ${name.padEnd(42)}${numbers}  ${unit}${verdict}`);
}

function targetText(median, high, target) {
  const best = high >= target ? "reached by the best sample" : "missed";
  return `  (target ${shown(target)}: ${median >= target ? "reached" : best})`;
}

function shown(value) {
  return value.toLocaleString("en-US", { maximumFractionDigits: value < 1000 ? 1 : 0 });
}
