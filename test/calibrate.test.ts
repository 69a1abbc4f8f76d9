/** `iommukit calibrate` as its users meet it: what it refuses, in one line, and Ctrl-C. */

import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { interruptWhen, iommukit, start } from "./command-line.js";

const output = (threads: number, unmapUs: number): string =>
  `dma mapping benchmark: threads:${threads} seconds:20\n` +
  "average map latency(us):0.3 standard deviation:0.1\n" +
  `average unmap latency(us):${unmapUs.toFixed(1)} standard deviation:0.2\n`;

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "iommukit-calibrate-"));
  writeFileSync(join(folder, "none.txt"), "hello\n");
  writeFileSync(join(folder, "one.txt"), output(1, 1.9));
  writeFileSync(join(folder, "quick.txt"), output(1, 0.2));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe("iommukit calibrate refuses, in one line and without writing a profile", () => {
  const one = (mode: string): string => `${mode}=${join(folder, "one.txt")}`;
  it.each<[string, () => string[], RegExp]>([
    ["no files", () => [], /missing required argument/],
    ["a file without a mode", () => [join(folder, "one.txt")], /as in strict=/],
    ["a mode without a file", () => ["strict="], /"strict=": name a file/],
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
    [
      "modes that were exchanged",
      () => [`lazy=${join(folder, "one.txt")}`, `strict=${join(folder, "quick.txt")}`],
      /one.txt#1 \(lazy\) takes 1.9 us .* exchange lazy= and strict=/,
    ],
    ["a name that is none", () => [one("strict"), "--name", "A B"], /--name/],
  ])("%s", (_, files, says) => {
    const out = join(folder, "out.json");
    const { code, stdout, stderr } = iommukit(["calibrate", ...files(), "--out", out]);
    expect(stderr).toMatch(/^iommukit: [^\n]+\n$/);
    expect(stderr).toMatch(says);
    expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
    expect(readdirSync(folder).sort()).toEqual(["none.txt", "one.txt", "quick.txt"]);
  });

  it("an output that is a device: before the work, and nothing is renamed over it", () => {
    const { code, stderr } = iommukit(["calibrate", one("strict"), "--out", "/dev/null"]);
    expect(stderr).toMatch(
      /^iommukit: --out: \/dev\/null is no regular file; name another file\n$/,
    );
    expect(code).toBe(2);
  });
});

describe("iommukit calibrate that Ctrl-C ends", () => {
  it("stops in the middle of a fit, says so, and leaves the old file and no other", async () => {
    const runs = [
      ["strict", "one.txt", output(1, 1.9)],
      ["strict", "many.txt", output(64, 30)],
      ["lazy", "lazy.txt", output(1, 0.2)],
    ];
    const fitting = mkdtempSync(join(folder, "fitting-"));
    for (const [, name, text] of runs) writeFileSync(join(fitting, name), text);
    const out = join(fitting, "out.json");
    writeFileSync(out, "old");
    const before = readdirSync(fitting);
    const args = runs.map(([mode, name]) => `${mode}=${join(fitting, name)}`);
    const child = start(["calibrate", ...args, "--out", out]);
    // The new file is there under another name while it works, which takes some seconds.
    const isAtWork = (): boolean => readdirSync(fitting).length > before.length;
    expect(await interruptWhen(child, isAtWork)).toEqual({
      code: 130,
      stdout: "",
      stderr: "iommukit: stopped; no profile was written\n",
    });
    expect(readdirSync(fitting)).toEqual(before);
    expect(readFileSync(out, "utf8")).toBe("old");
  });
});
