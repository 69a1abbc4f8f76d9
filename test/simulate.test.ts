/** `iommukit simulate` as its users meet it. */

import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { describe, expect, it } from "vitest";
import { expectRefusal, iommukit, together } from "./command-line.js";

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
    expect(lines[0]).toMatch(/^cpus,mode,perSecond,perSecondHalfWidth,/);
    for (const name of ["slatMeanNs", "clatP99Ns", "latMaxNs"]) expect(lines[0]).toContain(name);
    expect(lines[1]).toMatch(/^1,strict,\d+,/);
  });

  it("--why prints where the time went, and writes folded stacks that add up to it", () => {
    const file = join(mkdtempSync(join(tmpdir(), "iommukit-why-")), "stacks.folded");
    const flags = ["--cpus", "2", "--mode", "strict", "--runtime", "1ms", "--why", file];
    const { code, stdout } = iommukit(["simulate", "nvme", ...flags]);
    expect(code).toBe(0);
    expect(stdout).toMatch(/│ waiting for SYNC +│ +[\d,]+ │/);
    // The same number in both tables, to the grain of the window's ends, and in the same form.
    const each = /│ strict +│(?:[^│]+│){6} +([\d,]+) │/.exec(stdout)?.[1] ?? "";
    const total = /│ CPU time +│ +([\d,]+) │/.exec(stdout)?.[1] ?? "";
    expect(each).toMatch(/^\d,\d{3}$/);
    expect(total).toMatch(/^\d,\d{3}$/);
    const [eachNs, totalNs] = [each, total].map((text) => Number(text.replace(",", "")));
    expect(Math.abs(eachNs / totalNs - 1)).toBeLessThan(0.02);
    expect(stdout).toMatch(/\nstrict: lines fetched per request: .+\n$/);
    const lines = readFileSync(file, "utf8").trimEnd().split("\n");
    expect(lines.length).toBeGreaterThan(20);
    for (const line of lines) expect(line).toMatch(/^strict;2 CPUs(;[^;]+){2,4} \d+$/);
    rmSync(dirname(file), { recursive: true });
  });

  it("simulate net speaks netperf's words", () => {
    const flags = "--test UDP_STREAM --message 1k --cpus 1 --runtime 1ms --ramp 1ms".split(" ");
    const { code, stdout, stderr } = iommukit(["simulate", "net", ...flags, "--copybreak", "256"]);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    expect(stdout).toMatch(/^UDP_STREAM with messages of 1024 bytes, 1 adapter on 1 SMMU/);
  });
});

describe("iommukit simulate refuses in one line", () => {
  const refusals: [string[], RegExp][] = [
    [["nvme", "--rw", "sideways"], /choices are randread/],
    [["nvme", "--bs", "4q"], /a size from 512/],
    [["nvme", "--bs", "700"], /blocks of 512 bytes; use a multiple/],
    [["nvme", "--cpus", "0"], /a whole number from 1 to 1024/],
    [["nvme", "--cpus", "1,,2"], /a whole number from 1 to 1024/],
    [["nvme", "--runtime", "soon"], /a time from 1ms to 1000s/],
    [["nvme", "--queue", "none"], /choices are lockless/],
    [["nvme", "--iova-depot", "many"], /a number of magazines up to 8192, or 'unbounded'/],
    [["nvme", "--age", "-1"], /a whole number from 0 to 500000/],
    [["nvme", "--mode", "strict,laxy"], /'laxy' is no mode/],
    [["nvme", "--why", "/nowhere/stacks"], /--why: cannot write .nowhere.stacks \(ENOENT\)/],
    [["nvme", "--json", "--csv"], /cannot be used with/],
    [["nvme", "--iodepth", "65536", "--numjobs", "4096"], /requests in flight; lower/],
    [["net", "--test", "HTTP"], /TCP_STREAM/],
    [["net", "--test", "UDP_RR", "--message", "64k"], /a UDP datagram has 65507 bytes at most/],
    [["net", "--test", "TCP_MAERTS", "--message", "1k"], /the peer sends a stream; leave it out/],
    [[], /the command is missing or unknown/],
  ];
  const ended = together(
    refusals.map(([args]) => args),
    { first: ["simulate"] },
  );

  it.each(refusals)("%j", (args, says) => {
    expectRefusal(ended(args), says);
  });
});
