/** `iommukit bench` as its users meet it: the kernel tool's flags, complaints and output. */

import { describe, expect, it } from "vitest";
import { parseBenchmarks } from "#workloads";
import { expectRefusal, iommukit, together } from "./command-line.js";

describe("iommukit bench", () => {
  it("prints the kernel tool's three lines, which a reader of its output accepts", () => {
    const { code, stdout, stderr } = iommukit(["bench", "-t", "8", "-s", "2"]);
    expect(code).toBe(0);
    expect(stdout.split("\n")).toHaveLength(4);
    expect(stdout.split("\n")[0]).toBe(
      "dma mapping benchmark(SINGLE_MODE): threads:8 seconds:2 node:-1 dir:BIDIRECTIONAL granule:1",
    );
    const [read] = parseBenchmarks(stdout, "stdout");
    expect(read).toMatchObject({ threads: 8, seconds: 2, granule: 1 });
    expect(read.unmapUs).toBeGreaterThan(0);
    expect(stderr).toMatch(/^virtual time of profile generic-arm, strict: \d+ loops in .* --full/);
    const [, map, unmap] =
      /uncut, .* (\d+) ns \(map\) and (\d+) ns \(unmap\)\n$/.exec(stderr) ?? [];
    // Cutting takes up to 100 ns off each latency, and tenths up to 100 ns off their average.
    for (const [uncutNs, shownUs] of [
      [map, read.mapUs],
      [unmap, read.unmapUs],
    ]) {
      const cutNs = Number(uncutNs) - Number(shownUs) * 1000;
      expect(cutNs).toBeGreaterThanOrEqual(0);
      expect(cutNs).toBeLessThanOrEqual(200);
    }
  });

  it("takes the tool's other flags, a profile, a mode and a queue", () => {
    const flags = "-t 2 -s 1 -n 0 -b 40 -d 2 -x 1000 -g 4 -m 1".split(" ");
    const ours = "--profile kunpeng-d06 --mode strict --queue fetch-add --sync msi --json".split(
      " ",
    );
    const { code, stdout } = iommukit(["bench", ...flags, ...ours]);
    expect(code).toBe(0);
    const report = JSON.parse(stdout);
    expect(report).toMatchObject({
      mode: "strict",
      profile: "kunpeng-d06",
      parameters: { threads: 2, node: 0, dmaBits: 40, direction: 2, granule: 4, mapMode: 1 },
    });
    // The kernel's names and unit: each latency is cut to 100 ns.
    expect(report.avg_unmap_100ns).toBe(Math.floor(report.avg_unmap_100ns));
    const cutNs = report.unmapMeanNs - 100 * report.avg_unmap_100ns;
    expect(cutNs).toBeGreaterThanOrEqual(0);
    expect(cutNs).toBeLessThanOrEqual(200);
    expect(report).toMatchObject({ queue: "fetch-add", sync: "msi", seed: 1, age: 0 });
    expect(report.unmapHalfWidthNs).toBeLessThan(0.02 * report.unmapMeanNs + 10);
  });
});

describe("iommukit bench refuses in one line", () => {
  const refusals: [string[], string][] = [
    [["-t", "0"], "invalid number of threads, must be in 1-1024"],
    [["-t", "many"], "invalid number of threads, must be in 1-1024"],
    [["-s", "301"], "invalid number of seconds, must be in 1-300"],
    [["-m", "2", "-t", "0"], "invalid map mode, SINGLE_MODE:0, SG_MODE: 1"],
    [["-n", "99"], "invalid numa node"],
    [["-b", "20", "-g", "512"], "mask of 20 bits; take more bits"],
    [["--mode", "lazy", "-b", "22", "--age", "60000"], "no room for 60000 ranges"],
    [["--mode", "fast"], "--mode"],
    [["-q"], "unknown option '-q'"],
  ];
  const ended = together(
    refusals.map(([args]) => args),
    { first: ["bench"] },
  );

  it.each(refusals)("%j", (args, says) => {
    const refused = ended(args);
    expectRefusal(refused, /./);
    expect(refused.stderr).toContain(says);
  });
});
