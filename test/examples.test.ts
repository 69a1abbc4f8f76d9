/** The examples do what they say, and a strict TypeScript project accepts them. */

import { cpSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { iommukit, root, run, scratch } from "./command-line.js";

const { folder, inFolder } = scratch();
const examples = join(root, "examples");

const doc = readFileSync(join(root, "docs", "concurrency", "writing-a-harness.md"), "utf8");

describe("the examples", () => {
  it("have types, in a project that has this package installed", () => {
    cpSync(examples, inFolder("examples"), { recursive: true });
    mkdirSync(inFolder(join("node_modules", "@types")), { recursive: true });
    symlinkSync(root, inFolder(join("node_modules", "iommukit")));
    for (const name of [join("@types", "node"), "undici-types"]) {
      symlinkSync(join(root, "node_modules", name), inFolder(join("node_modules", name)));
    }
    const compiler = join(root, "node_modules", "typescript", "bin", "tsc");
    const strict = "--strict --exactOptionalPropertyTypes --allowJs --checkJs".split(" ");
    const modules = "--module nodenext --target es2022 --types node --ignoreConfig".split(" ");
    const files = ["smmuv3.js", "two-slots/harness.js", "two-slots/time.js", "counter.ts"];
    writeFileSync(inFolder("examples/counter.ts"), /```ts\n([\s\S]*?)```/.exec(doc)?.[1] ?? "");
    const paths = files.map((file) => join("examples", file));
    const args = [
      compiler,
      ...strict,
      ...modules,
      "--rootDir",
      "examples",
      "--outDir",
      "built",
      ...paths,
    ];
    const { code, stdout } = run(process.execPath, args, { cwd: folder });
    expect({ code, stdout }).toEqual({ code: 0, stdout: "" });
  });

  it("includes a counter in the guide, which is clean", () => {
    const { code, stdout } = iommukit(["check", inFolder("built/counter.js")]);
    expect(stdout).toMatch(/^counter sc: clean and complete; .*\n.*tso: clean.*\n.*weak: clean/);
    expect(code).toBe(0);
  });

  it("smmuv3.js translates, records a fault, and fails a command", () => {
    const { stdout } = run(process.execPath, [join(examples, "smmuv3.js")]);
    expect(stdout.trimEnd().split("\n")).toEqual([
      "read  0x1234: 0x80000234",
      "event interrupt",
      "write 0x5678: F_TRANSLATION",
      "recorded: F_TRANSLATION stream 8 at 0x5678",
      // CERROR_ILL, and CMDQ_ERR active.
      "CMDQ_CONS.ERR: 1 GERROR: 1",
    ]);
  });

  const harness = join(examples, "two-slots", "harness.js");

  it("two-slots/harness.js finds nothing in the scheme, and each of its faults", () => {
    const { reports } = JSON.parse(iommukit(["check", harness, "--json"]).stdout);
    // Two harnesses under three models.
    expect(reports).toHaveLength(6);
    for (const report of reports) expect(report).toMatchObject({ verdict: "clean" });
    const listed = JSON.parse(iommukit(["check", harness, "--list", "--json"]).stdout);
    const mutants = listed.flatMap((one: { mutants: { name: string }[] }) => one.mutants);
    expect(mutants).toHaveLength(4);
    for (const { name } of mutants) {
      const save = ["--save", inFolder("found.json")];
      const { code, stdout } = iommukit(["check", harness, "--mutant", name, ...save]);
      expect({ name, code }).toEqual({ name, code: 1 });
      // What an event wrote is not shown as if it had been there before.
      expect(stdout).not.toMatch(/(page \d given back) is 1 .*\n.*\1 := 1/);
    }
  });

  it("two-slots/time.js shows what two shared slots cost", () => {
    const { stdout } = run(process.execPath, [join(examples, "two-slots", "time.js")]);
    const rows = stdout.trimEnd().split("\n").slice(2);
    const times = rows.map((row) => row.trim().split(/ +/).map(Number));
    expect(times.map(([cpus]) => cpus)).toEqual([1, 2, 4, 8, 16, 32]);
    const [, queueNs, slotsNs] = times[5];
    // 4,475 and 10,899 when this was written: every CPU adds to the same two lines.
    expect(slotsNs).toBeGreaterThan(1.5 * queueNs);
  });
});
