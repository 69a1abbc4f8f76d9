/**
 * `npm test`: everything that a change must pass, each typed alone in a fresh clone.
 * Lint and format and the house's import rules (biome), types (tsc), build, tests.
 *
 * Arguments go to vitest: `npm test -- src/machine` runs one room's tests.
 */

import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { ensureBuilt, ensureInstalled, root, run } from "./ensure.js";

ensureInstalled();
const bin = (name) => join(root, "node_modules", ".bin", name);
run(bin("biome"), ["ci", "--error-on-warnings", "."]);
run(bin("tsc"), ["-p", "tsconfig.test.json"]);
ensureBuilt();

const folder = mkdtempSync(join(tmpdir(), "iommukit-test-"));
const report = join(folder, "report.json");
const args = ["run", "--reporter=default", "--reporter=json", `--outputFile.json=${report}`];
const result = spawnSync(bin("vitest"), [...args, ...process.argv.slice(2)], {
  cwd: root,
  stdio: "inherit",
});
let exitCode = result.status ?? 1;
try {
  const { numPassedTests, numFailedTests, numPendingTests, testResults } = JSON.parse(
    readFileSync(report, "utf8"),
  );
  if (numPassedTests === 0) exitCode ||= 1;
  await tellSkipped(testResults);
  console.log(`${numPassedTests} passed, ${numFailedTests} failed, ${numPendingTests} skipped`);
} catch (error) {
  console.error(`npm test: the test runner left no report (${error.message})`);
  exitCode ||= 1;
} finally {
  rmSync(folder, { recursive: true, force: true });
}
process.exit(exitCode);

/** Says which tests were skipped, and what to install for them to run. */
async function tellSkipped(files) {
  const { whyNoQemu } = await import("../dist/machine/qemu/index.js");
  const noQemu = whyNoQemu("aarch64");
  for (const { name, assertionResults } of files) {
    const count = assertionResults.filter(({ status }) => /pending|skipped/.test(status)).length;
    if (count === 0) continue;
    const file = relative(root, name);
    const needsQemu = /^test\/(qemu|differential)\//.test(file) && noQemu !== undefined;
    console.log(`skipped ${count} in ${file}: ${needsQemu ? noQemu : "see the file for why"}`);
  }
}
