/**
 * Faults that the search found in this code: each is kept as the schedule that shows it, with the
 * mutant that puts the fault back. Made by `iommukit check --mutant NAME --save FILE`.
 */

import { spawnSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import type { MemoryModel } from "#machine";
import { EVENTS_MAX } from "./check-harness.js";
import { findHarness } from "./harnesses/index.js";
import { findMutant } from "./mutants/index.js";
import type { Schedule } from "./schedule.js";
import { follow } from "./shrink.js";

interface Saved {
  readonly harness: string;
  readonly memoryModel: MemoryModel;
  readonly mutant: string;
  readonly message: string;
  readonly schedule: Schedule;
}

const FOLDER = new URL("./regressions/", import.meta.url);
const BIN = fileURLToPath(new URL("../../bin/iommukit.js", import.meta.url));

const regressions = readdirSync(FOLDER).map((file) => {
  const path = fileURLToPath(new URL(file, FOLDER));
  const saved: Saved = JSON.parse(readFileSync(path, "utf8"));
  return { ...saved, file, path };
});

describe("a fault that was found and mended", () => {
  it("is kept in a file that is named after the mutant that puts it back", () => {
    expect(regressions.length).toBeGreaterThan(0);
    for (const { file, mutant, harness } of regressions) {
      expect(file).toBe(`${mutant}.json`);
      expect(findMutant(mutant)?.harness).toBe(harness);
    }
  });

  it.each(regressions)("$mutant breaks its rule again, step by step", (saved) => {
    const { mutant, path, message } = saved;
    const args = [BIN, "check", "--replay", path, "--json"];
    const { status, stdout, stderr } = spawnSync(process.execPath, args, { encoding: "utf8" });
    const remedy = `make it anew: iommukit check --mutant ${mutant} --save ${saved.file}`;
    expect(stderr, `the schedule does not fit any more; ${remedy}`).toBe("");
    const broken = JSON.parse(stdout).narration.message;
    expect(broken, `the schedule shows the fault no more; ${remedy}`).toBe(message);
    expect(status).toBe(1);
  });

  it.each(regressions)(
    "$mutant: the same way through the code as it is breaks nothing",
    (saved) => {
      const harness = findHarness(saved.harness);
      if (harness === undefined) throw new Error(`there is no harness ${saved.harness} any more`);
      const { memoryModel, schedule } = saved;
      expect(follow(harness, memoryModel, schedule, EVENTS_MAX)).toBeUndefined();
    },
  );
});
