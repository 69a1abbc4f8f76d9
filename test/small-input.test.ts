/** What is small by its nature: profiles, registers, counterexamples; and what `--help` says. */

import { existsSync, lstatSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { type Ended, fixture, iommukit } from "./command-line.js";

const folder = mkdtempSync(join(tmpdir(), "iommukit-small-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const DUMP = fixture("smmu-dump-a/mem.bin.gz");
const MUTANT = ["check", "--mutant", "owner-takes-no-turn"];

function expectRefusal({ code, stderr }: Ended, says: RegExp): void {
  expect(code).toBe(2);
  expect(stderr).toMatch(/^iommukit: [^\n]*; [^\n]*\n$/);
  expect(stderr).toMatch(says);
}

// Its length is 0 by `stat`, and it never ends.
describe.skipIf(!existsSync("/dev/zero"))("a file without an end is refused, in one line", () => {
  it.each<[string, string[]]>([
    ["registers", ["walk", DUMP, "--all", "--regs", "/dev/zero"]],
    ["a counterexample", ["check", "--replay", "/dev/zero"]],
    ["a search", ["check", "command-queue", "--memory-model", "sc", "--state", "/dev/zero"]],
  ])("%s", (_name, args) => {
    expectRefusal(iommukit(args), /\/dev\/zero: has more than \d+ bytes; (name|give) a file/);
  });
});

describe("what check saves", () => {
  it("leaves no other file where it cannot be written, and no device is replaced", () => {
    const place = join(folder, "place");
    mkdirSync(place);
    expectRefusal(iommukit([...MUTANT, "--save", place]), /--save: .*place is no regular file/);
    expectRefusal(iommukit([...MUTANT, "--save", ""]), /--save: the name is empty; name a file/);
    // To rename over it is what an administrator's permissions would allow.
    expectRefusal(iommukit([...MUTANT, "--save", "/dev/null"]), /\/dev\/null is no regular file/);
    expect(lstatSync("/dev/null").isFile()).toBe(false);
    expect(readdirSync(folder)).toEqual(["place"]);
  });

  it("is asked for the name of a file to play back", () => {
    expectRefusal(iommukit(["check", "--replay", folder]), /EISDIR\); give a file that/);
  });
});

describe("check --list --json", () => {
  it("has every harness with its models and mutants", () => {
    const { code, stdout } = iommukit(["check", "--list", "--json"]);
    expect(code).toBe(0);
    const list: { readonly name: string; readonly mutants: never[] }[] = JSON.parse(stdout);
    const queue = list.find(({ name }) => name === "command-queue");
    expect(queue).toMatchObject({ memoryModels: ["sc", "tso", "weak"], isDeep: false });
    const names = queue?.mutants.map(({ name }: { readonly name: string }) => name);
    expect(names).toContain("owner-takes-no-turn");
  });
});

describe("explain with a junk word", () => {
  it.each(["nonsense", ""])("says what it takes: %j", (word) => {
    const { code, stderr } = iommukit(["explain", word]);
    expect(code).toBe(2);
    expect(stderr).toMatch(
      /^iommukit: "\w*" is no file, no hex words \(0x10, .*arm-smmu-v3 .*standard input\n$/,
    );
  });
});

describe("the help of simulate", () => {
  it("shows defaults in the units that its flags take", () => {
    const { stdout } = iommukit(["simulate", "nvme", "--help"]);
    const text = stdout.replace(/\s+/g, " ");
    expect(text).toContain("virtual time that is measured (default: 50ms)");
    expect(text).toContain("virtual time before that (default: until rate and latency are steady)");
    expect(text).toContain("block size (default: 4k)");
    expect(text).toContain("threads of this host (default: one per CPU)");
  });
});
