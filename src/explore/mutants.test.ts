import { spawnSync } from "node:child_process";
import { beforeAll, describe, expect, it } from "vitest";
import { findHarness } from "./harnesses/index.js";
import { MUTANTS, patched } from "./mutants/index.js";

/** Many times what the slowest needs; a fault that is not found by then is not found. */
const SECONDS_MAX = 60;
const MINUTES_MAX = 5;

/**
 * Runs on the build (which `npm test` has made), outside of the test runner, whose own loader
 * would take the mutated modules for the source.
 */
const SCRIPT = `
const { MUTANTS, loadMutant } = await import(process.argv[1]);
for (const mutant of MUTANTS) {
  const room = await loadMutant(mutant);
  for (const memoryModel of [mutant.memoryModel, mutant.hiddenUnder]) {
    if (memoryModel === undefined) continue;
    const harness = room.findHarness(mutant.harness);
    const options = { memoryModel, secondsMax: ${SECONDS_MAX} };
    const result = new room.Search(harness, room.schedulerOf(harness), options).run();
    const { violation, isComplete } = result;
    const isFound = violation !== undefined;
    const message = violation?.message;
    console.log(JSON.stringify({ name: mutant.name, memoryModel, isFound, isComplete, message }));
  }
}`;

interface Outcome {
  readonly name: string;
  readonly memoryModel: string;
  readonly isFound: boolean;
  readonly isComplete: boolean;
  readonly message?: string;
}

/** What V8 says of code that calls or reads what there is not: a patch that does not even run. */
const BROKEN_PATCH = /is not (a function|iterable|defined)|Cannot (read|set) properties/;

describe("mutants", () => {
  let outcomes: Outcome[] = [];

  beforeAll(() => {
    const door = new URL("../../dist/explore/index.js", import.meta.url).href;
    const args = ["--input-type=module", "--eval", SCRIPT, door];
    const { status, stdout, stderr } = spawnSync(process.execPath, args, { encoding: "utf8" });
    expect(stderr).toBe("");
    expect(status).toBe(0);
    outcomes = stdout
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line));
  }, MINUTES_MAX * 60_000);

  it("have names of their own, and harnesses that exist", () => {
    expect(new Set(MUTANTS.map(({ name }) => name)).size).toBe(MUTANTS.length);
    for (const { harness } of MUTANTS) expect(findHarness(harness)?.name).toBe(harness);
  });

  it.each(MUTANTS)("$name: the patch fits exactly once, and changes the file", (mutant) => {
    expect(patched(mutant)).toContain(mutant.replace);
    expect(mutant.replace).not.toBe(mutant.find);
  });

  it.each(MUTANTS)("$name is found under $memoryModel", ({ name, memoryModel }) => {
    const outcome = outcomes.find((one) => one.name === name && one.memoryModel === memoryModel);
    expect(outcome?.isFound).toBe(true);
    expect(outcome?.message).not.toMatch(BROKEN_PATCH);
  });

  const hidden = MUTANTS.filter(({ hiddenUnder }) => hiddenUnder !== undefined);

  it.each(hidden)("$name does not show under $hiddenUnder", ({ name, hiddenUnder }) => {
    const outcome = outcomes.find((one) => one.name === name && one.memoryModel === hiddenUnder);
    expect(outcome).toMatchObject({ isFound: false, isComplete: true });
  });
});
