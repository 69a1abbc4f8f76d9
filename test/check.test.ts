import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { iommukit } from "./command-line.js";

let folder = "";
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "iommukit-check-"));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe("iommukit check", () => {
  it("says clean and complete of a harness that is, and ends with 0", () => {
    const { code, stdout } = iommukit(["check", "rcu-synchronize", "--memory-model", "tso"]);
    expect(stdout).toMatch(/^rcu-synchronize tso: clean and complete; /);
    expect(code).toBe(0);
  });

  it("finds a mutant, saves the counterexample, and plays it back", () => {
    const file = join(folder, "found.json");
    const found = iommukit(["check", "--mutant", "unmap-without-barrier", "--save", file]);
    expect(found.code).toBe(1);
    expect(found.stdout).toContain("no translation survives its unmap");
    const played = iommukit(["check", "--replay", file, "--json"]);
    expect(played.code).toBe(1);
    const { narration } = JSON.parse(played.stdout);
    expect(narration.message).toBe("no translation survives its unmap");
    expect(narration.steps.length).toBeGreaterThan(0);
  });

  const mutant = "owner-takes-no-turn";

  it.each([
    ["within a bound of preemptions", ["--bound", "2"]],
    ["by random walks from a seed", ["--seed", "1"]],
    ["on two threads", ["--workers", "2"]],
    ["running every schedule twice", ["--twice"]],
  ])("finds a fault %s", (_way, flags) => {
    const file = join(folder, "way.json");
    const { code, stdout } = iommukit(["check", "--mutant", mutant, ...flags, "--save", file]);
    expect(stdout).toMatch(/^command-queue sc: VIOLATION; /);
    expect(code).toBe(1);
    expect(iommukit(["check", "--replay", file]).code).toBe(1);
  });

  it("says of a counterexample that it does not fit the code any more", () => {
    const file = join(folder, "old.json");
    iommukit(["check", "--mutant", mutant, "--save", file]);
    const saved = JSON.parse(readFileSync(file, "utf8"));
    // More steps of one CPU than it has: it waits, or is done, before they are over.
    saved.schedule.steps = new Array(200).fill("cpu0");
    writeFileSync(file, JSON.stringify(saved));
    const { code, stderr } = iommukit(["check", "--replay", file]);
    expect(code).toBe(2);
    expect(stderr).toMatch(/is cpu0's, who cannot go there: .* has changed/);
  });

  it("never calls a search clean that was cut short", () => {
    const { code, stdout } = iommukit(["check", "command-queue-laps", "--executions", "10"]);
    expect(stdout).toMatch(/not complete, nothing found so far/);
    expect(stdout).not.toMatch(/clean/);
    expect(code).toBe(0);
  });

  it.each([
    [["check", "no-such-harness"], /no harness is called "no-such-harness"/],
    [["check", "--mutant", "none"], /no mutant is called "none"/],
    [["check", "--seed", "1", "--bound", "1"], /give one/],
    [["check", "--executions", "many"], /whole number/],
    [["check", "--replay", "/no/such/file"], /cannot be read/],
  ])("says in one line what is wrong with %j", (args, message) => {
    const { code, stderr } = iommukit(args);
    expect(code).toBe(2);
    expect(stderr).toMatch(message);
    expect(stderr.trimEnd().split("\n")).toHaveLength(1);
  });

  it("refuses a file that it has not saved", () => {
    const file = join(folder, "other.json");
    writeFileSync(file, '{"iommukit":"counterexample 1"}');
    const { code, stderr } = iommukit(["check", "--replay", file]);
    expect(code).toBe(2);
    expect(stderr).toContain("other.json: harness");
  });
});
