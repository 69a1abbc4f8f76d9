/** `iommukit calibrate` as its users meet it: what it refuses, in one line. */

import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { iommukit } from "./command-line.js";

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "iommukit-calibrate-"));
  writeFileSync(join(folder, "none.txt"), "hello\n");
  writeFileSync(
    join(folder, "one.txt"),
    "dma mapping benchmark: threads:1 seconds:20\n" +
      "average map latency(us):0.3 standard deviation:0.1\n" +
      "average unmap latency(us):1.9 standard deviation:0.2\n",
  );
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe("iommukit calibrate refuses, in one line and without writing a profile", () => {
  const one = (mode: string): string => `${mode}=${join(folder, "one.txt")}`;
  it.each<[string, () => string[], RegExp]>([
    ["no files", () => [], /missing required argument/],
    ["a file without a mode", () => [join(folder, "one.txt")], /as in strict=/],
    ["a mode that there is not", () => [one("quick")], /as in strict=/],
    [
      "a file that is not there",
      () => [`strict=${join(folder, "no")}`],
      /cannot be read \(ENOENT\)/,
    ],
    [
      "another file",
      () => [`strict=${join(folder, "none.txt")}`],
      /no output of dma_map_benchmark/,
    ],
    ["runs that cannot tell", () => [one("strict")], /add a lazy run with -t 1/],
    ["runs without contention", () => [one("strict"), one("lazy")], /add a strict run with -t 32/],
    ["a name that is none", () => [one("strict"), "--name", "A B"], /--name/],
  ])("%s", (_, files, says) => {
    const out = join(folder, "out.json");
    const { code, stdout, stderr } = iommukit(["calibrate", ...files(), "--out", out]);
    expect(stderr).toMatch(/^iommukit: [^\n]+\n$/);
    expect(stderr).toMatch(says);
    expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
    expect(readdirSync(folder).sort()).toEqual(["none.txt", "one.txt"]);
  });

  it("an output that is a device: before the work, and nothing is renamed over it", () => {
    const { code, stderr } = iommukit(["calibrate", one("strict"), "--out", "/dev/null"]);
    expect(stderr).toMatch(
      /^iommukit: --out: \/dev\/null is no regular file; name another file\n$/,
    );
    expect(code).toBe(2);
  });
});
