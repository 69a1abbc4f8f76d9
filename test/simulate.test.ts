/** `iommukit simulate` as its users meet it. */

import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { describe, expect, it } from "vitest";
import { iommukit } from "./command-line.js";

/** Two CPU counts in two modes, a fraction of a second each. */
const SMALL = "simulate nvme --cpus 1,2 --mode strict,lazy --runtime 2ms --ramp 1ms".split(" ");

describe("iommukit simulate nvme", () => {
  it("prints a table with a row per run and a verdict per number of CPUs", () => {
    const { code, stdout, stderr } = iommukit(SMALL);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    expect(stdout).toMatch(/^randread of 4096 bytes, 32 in flight per job, 1 drive on 1 SMMU/);
    expect(stdout.match(/│ +[12] │ (strict|lazy) /g)).toHaveLength(4);
    expect(stdout).toMatch(/\n1 CPU: .+\n2 CPUs: .+\n$/);
  });

  it("gives the same whatever the number of workers, as JSON", () => {
    const [one, three] = ["1", "3"].map((workers) =>
      iommukit([...SMALL, "--json", "--workers", workers]),
    );
    expect(one.code).toBe(0);
    const report = JSON.parse(one.stdout);
    expect(report.plan).toMatchObject({ rw: "randread", profile: "generic-arm" });
    expect(report.runs.map((run: { mode: string; cpus: number }) => [run.cpus, run.mode])).toEqual([
      [1, "strict"],
      [1, "lazy"],
      [2, "strict"],
      [2, "lazy"],
    ]);
    expect(three.stdout).toBe(one.stdout);
  });

  it("prints CSV with a header", () => {
    const { code, stdout } = iommukit([...SMALL, "--csv"]);
    expect(code).toBe(0);
    const lines = stdout.trimEnd().split("\n");
    expect(lines).toHaveLength(5);
    expect(lines[0]).toMatch(/^cpus,mode,perSecond,/);
    expect(lines[1]).toMatch(/^1,strict,\d+,/);
  });

  it("--why prints where the time went, and writes folded stacks that add up to it", () => {
    const file = join(mkdtempSync(join(tmpdir(), "iommukit-why-")), "stacks.folded");
    const flags = ["--cpus", "2", "--mode", "strict", "--runtime", "1ms", "--why", file];
    const { code, stdout } = iommukit(["simulate", "nvme", ...flags]);
    expect(code).toBe(0);
    expect(stdout).toMatch(/│ waiting for SYNC +│ +\d+ │/);
    expect(stdout).toMatch(/\nstrict: lines fetched per request: .+\n$/);
    const lines = readFileSync(file, "utf8").trimEnd().split("\n");
    expect(lines.length).toBeGreaterThan(20);
    for (const line of lines) expect(line).toMatch(/^strict;2 CPUs(;[^;]+){2,4} \d+$/);
    rmSync(dirname(file), { recursive: true });
  });

  it.each<[string[], RegExp]>([
    [["--rw", "sideways"], /choices are randread/],
    [["--bs", "4q"], /a size from 512/],
    [["--bs", "700"], /blocks of 512 bytes; use a multiple/],
    [["--cpus", "0"], /a whole number from 1 to 1024/],
    [["--cpus", "1,,2"], /a whole number from 1 to 1024/],
    [["--runtime", "soon"], /a time from 1ms to 1000s/],
    [["--queue", "none"], /choices are lockless/],
    [["--mode", "strict,laxy"], /'laxy' is no mode/],
    [["--why", "/nowhere/stacks"], /--why: cannot write .nowhere.stacks \(ENOENT\)/],
    [["--json", "--csv"], /cannot be used with/],
    [["--iodepth", "65536", "--numjobs", "4096"], /requests in flight; lower/],
  ])("refuses %j in one line", (flags, says) => {
    const { code, stdout, stderr } = iommukit(["simulate", "nvme", ...flags]);
    expect(stderr).toMatch(/^iommukit: [^\n]+\n$/);
    expect(stderr).toMatch(says);
    expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
  });

  it("simulate net speaks netperf's words", () => {
    const flags = "--test UDP_STREAM --message 1k --cpus 1 --runtime 1ms --ramp 1ms".split(" ");
    const { code, stdout, stderr } = iommukit(["simulate", "net", ...flags, "--copybreak", "256"]);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    expect(stdout).toMatch(/^UDP_STREAM with messages of 1024 bytes, 1 adapter on 1 SMMU/);
    const refused = iommukit(["simulate", "net", "--test", "HTTP"]);
    expect(refused.code).toBe(2);
    expect(refused.stderr).toMatch(/^iommukit: .*TCP_STREAM[^\n]+\n$/);
  });

  it("asks for a kind of load", () => {
    const { code, stderr } = iommukit(["simulate"]);
    expect(code).toBe(2);
    expect(stderr).toMatch(/^iommukit: [^\n]+\n$/);
  });
});
