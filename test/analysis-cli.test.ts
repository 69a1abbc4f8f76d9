/** `iommukit walk` and `iommukit explain` as users run them. */

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import {
  bin,
  type Ended,
  expectRefusal,
  fixture,
  fixtureBytes,
  iommukit,
  root,
  run,
  scratch,
  together,
} from "./command-line.js";

const { inFolder, put } = scratch();

const DUMP = fixture("smmu-dump-a/mem.bin.gz");
const REGS = fixture("smmu-dump-a/regs.json");
const EVENT = ["0x0000000800000010", "0x0000020000000000", "0x00000000fffc0000", "0x0"];

const WALK = ["walk", DUMP, "--regs", REGS];
const walk = (...args: string[]): Ended => iommukit([...WALK, ...args]);

/** As `expectRefusal`, with what is wrong and what to do. */
function expectRemedy(ended: Ended, what: RegExp): void {
  expectRefusal(ended, what);
  expect(ended.stderr).toMatch(/; /);
}

describe("walk", () => {
  it("shows every level and ends in the physical address", () => {
    const { code, stdout, stderr } = walk("--sid", "00:01.0", "--iova", "0xffffd040");
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    expect(stdout).toMatch(/^stream 0x8: read at 0xffffd040\n/);
    expect(stdout).toContain("stream table entry at 0x4ba60200: 0x00000000476e900b ");
    expect(stdout).toContain("stage 1, level 3 at ");
    expect(stdout).toMatch(/\n= 0x43ebd040 \(in 4 KiB, by stage 1\); .*normal, write-back\n$/);
  });

  it("is exit code 1 when it faults, and says why", () => {
    const { code, stdout } = walk("--sid", "8", "--iova", "0x1000", "--access", "write");
    expect(code).toBe(1);
    expect(stdout).toMatch(/\n= F_TRANSLATION \(input address\): .*invalid: nothing is mapped/);
  });

  it("has the same in JSON", () => {
    const { stdout } = walk("--sid", "8", "--iova", "0xffffd040", "--json");
    const report = JSON.parse(stdout);
    expect(report).toMatchObject({
      streamId: 8,
      iova: "0xffffd040",
      outcome: { kind: "translated", physicalAddress: "0x43ebd040", leafBytes: 4096 },
    });
    expect(report.steps).toHaveLength(7);
    expect(report.steps[1].fields[0]).toEqual({
      name: "V",
      bits: "Q0 0",
      value: "0x1",
      text: "the entry is valid",
    });
  });

  it("--all --json is one object on each line, and as many as there are leaves", () => {
    const { code, stdout } = walk("--all", "--json");
    expect(code).toBe(0);
    const lines = stdout
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line));
    const { leaves } = JSON.parse(fixtureBytes("smmu-dump-a/leaves.json.gz").toString());
    const expected = Object.values(leaves as Record<string, object[]>).flat().length;
    expect(lines.filter(({ kind }) => kind === "mapping")).toHaveLength(expected);
    expect(lines.filter(({ kind }) => kind === "stream")).toHaveLength(3);
  });

  it("ends quietly when its reader has seen enough", () => {
    const command = 'set -o pipefail; "$1" "$2" walk "$3" --regs "$4" --all | head -2';
    const ended = run("bash", ["-c", command, "bash", process.execPath, bin, DUMP, REGS]);
    expect(ended).toMatchObject({ code: 0, stderr: "" });
    expect(ended.stdout.split("\n")).toHaveLength(3);
  });

  it("takes registers from flags, and says what it assumes", () => {
    const bare = ["walk", DUMP, "--sid", "8", "--iova", "0xffffd040", "--base", "0x40000000"];
    const table = ["--reg", "STRTAB_BASE=0x4000000048b48000", "--reg", "strtab_base_cfg=0x10210"];
    const { code, stdout } = iommukit([...bare, ...table]);
    expect(code).toBe(0);
    expect(stdout).toMatch(/\nnote: IDR5 is not given: .*\n/);
    expect(stdout).toContain("\n= 0x43ebd040 ");
    expectRemedy(iommukit(bare), /register STRTAB_BASE is not given/);
  });

  it("says so when the dump does not have what it needs", () => {
    const part = put("part.bin", fixtureBytes("smmu-dump-a/mem.bin.gz").subarray(0, 2 ** 20));
    const ended = iommukit(["walk", part, "--regs", REGS, "--sid", "8", "--iova", "0x1000"]);
    expect(ended.code).toBe(1);
    expect(ended.stdout).toMatch(/= unknown: the level-1 .* at 0x48b48000 is not in the dump\n$/);
    const all = iommukit(["walk", part, "--regs", REGS, "--all"]);
    expect(all.code).toBe(1);
    expect(all.stdout).toMatch(/problem: not in the dump: level-1 stream table/);
  });

  const refusals: [string[], RegExp][] = [
    [["--sid", "8"], /which address\? give --sid and --iova/],
    [["--all", "--iova", "0x1000"], /--all lists every address/],
    [["--merge", "--sid", "8", "--iova", "0"], /--merge goes with --all/],
    [["--sid", "0x1ffffffff", "--iova", "0"], /'0x1ffffffff' is invalid.* stream id/],
    [["--sid", "8", "--iova", "12q"], /'12q' is invalid.* an address/],
    [["--sid", "8", "--iova", "0x00ffffffffffffff"], /no table translates such an address/],
    [["--sid", "8", "--iova", "0", "--reg", "CR9=1"], /--reg CR9=1: it is NAME=VALUE/],
  ];
  const refused = together(
    refusals.map(([args]) => args),
    { first: WALK },
  );

  it.each(refusals)("refuses %j in one line", (args, what) => {
    expectRefusal(refused(args), what);
  });

  it("refuses files that are none of it in one line", () => {
    const given = ["--sid", "8", "--iova", "0"];
    const broken = put("broken.json", "{");
    const wrong = put("wrong.json", '{"registers": {"CR0": "zero"}}');
    const missing = inFolder("none");
    const cut = put("cut.gz", fixtureBytes("smmu-dump-a/leaves.json.gz").subarray(0, 0));
    const refusals: [string[], RegExp][] = [
      [["walk", missing, "--regs", REGS, ...given], /no such file/],
      [["walk", DUMP, "--regs", missing, ...given], /cannot be read/],
      [["walk", DUMP, "--regs", broken, ...given], /this is no JSON/],
      [["walk", DUMP, "--regs", wrong, ...given], /registers\.CR0/],
      [["walk", cut, "--regs", REGS, ...given], /there is nothing in it/],
    ];
    const ended = together(refusals.map(([args]) => args));
    for (const [args, what] of refusals) expectRemedy(ended(args), what);
  });
});

describe("explain", () => {
  it("decodes words, says what happened, why, and by which rule", () => {
    const { code, stdout, stderr } = iommukit(["explain", ...EVENT]);
    expect({ code, stderr }).toEqual({ code: 1, stderr: "" });
    expect(stdout).toMatch(/^F_TRANSLATION \(event 0x10\)\n {2}Stream 0x8: write /);
    expect(stdout).toMatch(/likely causes.*\n {4}1\. .*\n {7}check: /);
    expect(stdout).toContain("rule: Arm IHI 0070, 7.3.13");
  });

  it("takes log lines from arguments, quoted or not, from a file and from standard input", () => {
    const head = "arm-smmu-v3 arm-smmu-v3.0.auto:";
    const lines = [`${head} event 0x10 received:`, ...EVENT.map((word) => `${head} ${pad(word)}`)];
    const text = `${lines.join("\n")}\n`;
    const given = [[text], text.trim().split(/\s+/), [put("dmesg.txt", text)]];
    const ended = together(given, { first: ["explain"] });
    const all = [
      ...given.map(ended),
      iommukit(["explain", "-"], { input: text }),
      iommukit(["explain"], { input: text }),
    ];
    for (const { code, stdout } of all) {
      expect(code).toBe(1);
      expect(stdout).toMatch(/^F_TRANSLATION \(event 0x10\) \(line 1, arm-smmu-v3\.0\.auto\)\n/);
    }
  });

  it("says the same report once, and how often it came", () => {
    const line = "arm-smmu-v3 arm-smmu-v3.0.auto: EVTQ overflow detected -- events lost\n";
    const { stdout } = iommukit(["explain", "-"], { input: line.repeat(1000) });
    expect(stdout).toMatch(/^EVTQ overflow \(line 1, arm-smmu-v3\.0\.auto, 1000 times\)\n/);
    expect(stdout.split("\n").length).toBeLessThan(10);
  });

  it("with a capture tells the mapping's history", () => {
    const capture = ["--capture", fixture("smmu-nvme-strict.dat.gz")];
    const { code, stdout } = iommukit(["explain", ...capture, ...EVENT]);
    expect(code).toBe(1);
    expect(stdout).toContain("device 0000:00:01.0: 14000 maps in the capture");
    expect(stdout).toMatch(
      /1\. an overrun: the address is at its very end, of the mapping 0xfffbf000/,
    );
    expect(stdout).toMatch(/mapped at \d\.\d{6} s by fio-\d+ on CPU 1, unmapped .* later/);
    const json = JSON.parse(iommukit(["explain", "--json", ...capture, ...EVENT]).stdout);
    expect(json[0].history).toMatchObject({ maps: 14_000, devices: ["0000:00:01.0"] });
    expect(json[0].history.left).toMatchObject({ last: "0xfffbffff", sizeBytes: 4096 });
  });

  it("with a capture and a time tells what was mapped then", () => {
    const used = EVENT.with(2, "0x00000000fffbf010");
    const args = ["explain", "--capture", fixture("smmu-nvme-strict.dat.gz"), ...used];
    const { stdout } = iommukit([...args, "--at", "7.376300"]);
    expect(stdout).toMatch(
      /1\. use after unmap: the device accessed 0xfffbf000-0xfffbffff .* after/,
    );
  });

  it("is exit code 0 for what tells of nothing wrong", () => {
    const pte = ["explain", "--as", "pte", "--level", "3", "0x43ebdf47"];
    const { code, stdout } = iommukit(pte);
    expect(code).toBe(0);
    expect(stdout).toMatch(/^stage-1 page-table entry, level 3\n {2}page of 4 KiB at 0x43ebd000\n/);
    expect(JSON.parse(iommukit([...pte, "--json"]).stdout)[0].kind).toBe("pte");
  });

  const refusals: [string[], RegExp][] = [
    [["hello", "world"], /no file, no hex words .* and no log line/],
    [["0x1", "0x2", "0x3"], /3 words of 64 bits are no structure/],
    [["--as", "ste", "0x1"], /--as ste takes 8 words/],
    [["--as", "nonsense", "0x1"], /nonsense/],
    [["--level", "4", "0x1"], /level from 0 to 3/],
    [["--device", "0000:00:01.0", "0x1"], /--device and --at are about a capture/],
    [["--capture", "/nonexistent", ...EVENT], /there is no such file/],
  ];
  const refused = together(
    refusals.map(([args]) => args),
    { first: ["explain"] },
  );

  it.each(refusals)("refuses %j in one line", (args, what) => {
    expectRefusal(refused(args), what);
  });

  it("refuses input without anything of an SMMUv3 in it, however long its lines are", () => {
    const input = "x".repeat(10 * 2 ** 20);
    expectRemedy(iommukit(["explain", "-"], { input }), /nothing of an SMMUv3/);
    expectRemedy(iommukit(["explain", "-"], { input: "" }), /nothing of an SMMUv3/);
  });
});

describe("the README's commands", () => {
  const readme = readFileSync(join(root, "README.md"), "utf8");
  const matches = [...readme.matchAll(/^npm start -- ((?:walk|explain) .*)$/gm)];
  const commands = matches.map(([, command]) => command.split(" "));
  const ended = together(commands);

  it("are there for both", () => {
    expect(commands.length).toBeGreaterThanOrEqual(5);
  });

  it.each(commands.map((args) => ({ args })))("run: $args", ({ args }) => {
    const { code, stdout, stderr } = ended(args);
    expect(stderr).toBe("");
    expect([0, 1]).toContain(code);
    expect(stdout).not.toBe("");
  });
});

/** As the kernel prints a word: 16 digits. */
function pad(word: string): string {
  return `0x${word.slice(2).padStart(16, "0")}`;
}
