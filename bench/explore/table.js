/**
 * `npm run bench:explore`: every mutant with the search that finds it, and every harness on the
 * real code, as the tables of docs/concurrency/mutants.md. `--write` puts them there.
 *
 * The searches are the same every time; only the seconds depend on the host. Ends with 1 if a
 * mutant is not found, or the real code is not clean. Takes two to four minutes, nearly all of them
 * for the deep harnesses.
 */

import { readFileSync, renameSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { ensureBuilt, ensureInstalled } from "../../scripts/ensure.js";
import { cpuSecondsOf } from "../measure.js";

ensureInstalled();
ensureBuilt();
const explore = await import("../../dist/explore/index.js");

const PAGE = fileURLToPath(new URL("../../docs/concurrency/mutants.md", import.meta.url));
const BEGIN = "<!-- made by `npm run bench:explore -- --write` -->";
const END = "<!-- end -->";

const failures = [];
const tables = [await mutantTable(), harnessTable()].join("\n\n");
if (process.argv.includes("--write")) write(tables);
else console.log(tables);
for (const failure of failures) console.error(failure);
process.exitCode = failures.length === 0 ? 0 : 1;

async function mutantTable() {
  const rows = [];
  for (const mutant of explore.MUTANTS) {
    const { name, breaks, harness, memoryModel, hiddenUnder } = mutant;
    const room = await explore.loadMutant(mutant);
    const found = search(room, harness, memoryModel);
    if (found.violation === undefined) failures.push(`${name} is not found`);
    // The execution that breaks the rule is not among those that broke none.
    const executions = `${count(found.executions + 1)}`;
    const hidden = hiddenUnder === undefined ? "" : hiddenText(room, mutant);
    const { pruned, seconds } = found;
    rows.push([code(name), breaks, code(harness), memoryModel, executions, count(pruned), seconds]);
    rows.at(-1).push(hidden);
  }
  const head = ["mutant", "what it breaks", "harness", "model", "executions", "pruned", "s"];
  return table([...head, "does not show under"], rows, [4, 5, 6]);
}

function hiddenText(room, { name, harness, hiddenUnder }) {
  const { violation, isComplete, executions } = search(room, harness, hiddenUnder);
  if (violation !== undefined || !isComplete) failures.push(`${name} shows under ${hiddenUnder}`);
  return `${hiddenUnder} (all ${count(executions)})`;
}

function harnessTable() {
  const rows = explore.HARNESSES.flatMap(({ name, memoryModels, isDeep, preemptionsMax }) =>
    memoryModels.map((memoryModel) => {
      const result = search(explore, name, memoryModel);
      const { violation, isComplete, executions, pruned, depthMax, seconds } = result;
      if (violation !== undefined) failures.push(`${name} ${memoryModel}: ${violation.message}`);
      else if (!isComplete) failures.push(`${name} ${memoryModel} is not complete`);
      const scope = preemptionsMax === undefined ? "yes" : `preemptions: ${preemptionsMax}`;
      const verdict = violation === undefined ? (isComplete ? scope : "cut") : "VIOLATION";
      const counts = [executions, pruned, depthMax].map(count);
      const shown = `${code(name)}${isDeep ? " (deep)" : ""}`;
      return [shown, memoryModel, ...counts, verdict, seconds];
    }),
  );
  const head = ["harness", "model", "executions", "pruned", "steps at most"];
  return table([...head, "clean and complete", "s"], rows, [2, 3, 4, 6]);
}

function search({ Search, schedulerOf, findHarness }, name, memoryModel) {
  const harness = findHarness(name);
  const searching = new Search(harness, schedulerOf(harness), { memoryModel });
  let result;
  const seconds = cpuSecondsOf(() => {
    result = searching.run();
  });
  return { ...result, seconds: seconds.toFixed(2) };
}

function table(head, rows, numeric) {
  const rule = head.map((_, column) => (numeric.includes(column) ? "---:" : "---"));
  return [head, rule, ...rows].map((cells) => `| ${cells.join(" | ")} |`).join("\n");
}

function code(text) {
  return `\`${text}\``;
}

function count(value) {
  return value.toLocaleString("en-US");
}

function write(text) {
  const page = readFileSync(PAGE, "utf8");
  const before = page.slice(0, page.indexOf(BEGIN) + BEGIN.length);
  const after = page.slice(page.indexOf(END));
  writeFileSync(`${PAGE}.new`, `${before}\n\n${text}\n\n${after}`);
  renameSync(`${PAGE}.new`, PAGE);
}
