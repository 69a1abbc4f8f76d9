/** `iommukit check ./module.js`: harnesses that somebody writes outside of this package. */

import { copyFileSync, mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { expectRefusal, iommukit, root, scratch, together } from "./command-line.js";

const { folder, inFolder, put } = scratch();

/** Two CPUs count: with one operation each, or with a load and a store, which loses one. */
const COUNTER = `
  import { check } from "iommukit/explore";
  import { loneCell } from "iommukit/machine";
  import { ONE } from "./add.mjs";
  const counter = (name, add) => ({
    name,
    title: "two CPUs count",
    memoryModels: ["sc"],
    machine: { cpus: 2 },
    goals: [],
    setup(machine) {
      const cell = loneCell("counter");
      for (const id of [0, 1]) machine.start(id, (cpu) => add(cpu, cell));
      return { atEnd: () => check(cell.value === 2, "nothing is lost") };
    },
  });
  export const counters = [
    counter("atomic", function* (cpu, cell) {
      yield* cpu.fetchAdd(cell, ONE);
    }),
    counter("torn", function* (cpu, cell) {
      const before = yield* cpu.load(cell);
      yield* cpu.store(cell, before + 1);
    }),
  ];
  export default counters[0];
`;

const ADD = "export const ONE = 1;\n";

/** Faults of the file that the harness imports: one that fits, and two that do not. */
const MUTANTS = `
  export * from "./counters.mjs";
  const mutant = (name, file, find) =>
    ({ name, breaks: "nothing is added", harness: "atomic", memoryModel: "sc", file, find,
       replace: "= 0;" });
  export const mutants = [
    mutant("adds-nothing", "./add.mjs", "= 1;"),
    mutant("fits-nothing", "./add.mjs", "= 2;"),
    mutant("of-no-file", "./gone.mjs", "= 1;"),
  ];
`;

/** A harness of our own again, by way of two modules and the package's door. */
const MAGAZINES = `
  import { HARNESSES } from "iommukit/explore";
  export const mine = HARNESSES.filter(({ name }) => name === "iova-magazines");
`;
const BETWEEN = 'export * from "./magazines.mjs";';

let counters: string;

beforeAll(() => {
  mkdirSync(join(folder, "node_modules"));
  symlinkSync(root, join(folder, "node_modules", "iommukit"));
  put("add.mjs", ADD);
  counters = put("counters.mjs", COUNTER);
});

describe("iommukit check with a module's path", () => {
  it("checks what the module exports, and prints places in its code", () => {
    const save = ["--save", inFolder("torn.json")];
    const { code, stdout, stderr } = iommukit(["check", counters, ...save], { cwd: folder });
    expect({ code, stderr }).toEqual({ code: 1, stderr: "" });
    expect(stdout).toMatch(/^atomic sc: clean and complete; /);
    expect(stdout).toMatch(/^torn sc: VIOLATION; /m);
    expect(stdout).toMatch(/│ counters\.mjs:\d+ +│/);
    expect(stdout).toContain("nothing is lost");
  });

  it("by name, on threads of its own, and lists them", () => {
    const { code, stdout } = iommukit(["check", counters, "atomic", "--workers", "2"]);
    expect(stdout).toMatch(/^atomic sc: clean and complete; [^\n]+\n$/);
    expect(code).toBe(0);
    const listed = iommukit(["check", "--list", counters]).stdout;
    expect(listed).toBe("atomic (sc): two CPUs count\ntorn (sc): two CPUs count\n");
  });

  it("plays its counterexamples back, given the module again", () => {
    const file = inFolder("replay.json");
    expect(iommukit(["check", counters, "torn", "--save", file]).stdout).toContain(
      `saved: iommukit check ${counters} --replay ${file}`,
    );
    const { code, stdout } = iommukit(["check", counters, "--replay", file]);
    expect(stdout).toContain("nothing is lost");
    expect(code).toBe(1);
    expectRefusal(iommukit(["check", "--replay", file]), /"torn".*path of its module/);
  });

  it.each([[[]], [["--workers", "2"]]])("runs it on a mutated build %s", (flags) => {
    put("magazines.mjs", MAGAZINES);
    const mine = put("between.mjs", BETWEEN);
    const save = ["--memory-model", "sc", "--save", inFolder("mutant.json")];
    const mutant = ["--mutant", "loaded-magazine-dropped", ...save, ...flags];
    expect(iommukit(["check", mine, "--memory-model", "sc"]).code).toBe(0);
    const { code, stdout } = iommukit(["check", mine, ...mutant]);
    expect(stdout).toMatch(/^iova-magazines sc: VIOLATION; /);
    expect(code).toBe(1);
  });

  it("puts a module's own faults into its code", () => {
    const mine = put("mutants.mjs", MUTANTS);
    const save = ["--save", inFolder("own.json")];
    for (const flags of [[], ["--workers", "2"]]) {
      const found = iommukit(["check", mine, "--mutant", "adds-nothing", ...save, ...flags]);
      expect(found.stdout).toMatch(/^atomic sc: VIOLATION; /);
      expect(found.code).toBe(1);
    }
    const played = iommukit(["check", mine, "--replay", inFolder("own.json")]);
    expect(played.stdout).toContain("nothing is lost");
    expect(iommukit(["check", mine, "--list"]).stdout).toContain(
      "  adds-nothing (atomic, sc): nothing is added\n",
    );
    // The same in a package that is installed.
    const installed = join("node_modules", "mine");
    mkdirSync(inFolder(installed));
    for (const name of ["add.mjs", "counters.mjs", "mutants.mjs"]) {
      copyFileSync(inFolder(name), inFolder(join(installed, name)));
    }
    const theirs = inFolder(join(installed, "mutants.mjs"));
    expect(iommukit(["check", theirs, "--mutant", "adds-nothing", ...save]).code).toBe(1);
    const fits = iommukit(["check", mine, "--mutant", "fits-nothing"]);
    expectRefusal(fits, /its text occurs 0 times in \S+add\.mjs/);
    expectRefusal(iommukit(["check", mine, "--mutant", "of-no-file"]), /there is no \S+gone\.mjs/);
  });

  const refused: readonly (readonly [what: string, source: string, says: RegExp])[] = [
    ["without a harness", "export const sum = 3;", /exports no harness/],
    ["that throws", 'throw new Error("of its own");', /cannot be loaded: of its own/],
    ["that is no module", "export const {", /cannot be loaded: /],
    ["with half a harness", 'export const half = { name: "half", setup() {} };', /needs a title/],
    ["with a name for no file", 'export const odd = { name: "../x", setup() {} };', /needs a name/],
    [
      "with half a mutant",
      `${COUNTER} export const half = { name: "half", find: "a", replace: "b" };`,
      /the mutant "half" needs "breaks"/,
    ],
    ["with a name twice", `${COUNTER} export const a = { ...counters[0] };`, /are called "atomic"/],
  ];
  const lines = refused.map((_, index) => ["check", inFolder(`refused${index}.mjs`)]);
  const asked = together(lines);

  it.each(refused.map(([what, , says], index) => ({ what, says, index })))(
    "refuses a module $what",
    ({ says, index }) => {
      refused.forEach(([, source], at) => void put(`refused${at}.mjs`, source));
      expectRefusal(asked(lines[index]), says);
    },
  );

  it("refuses what is not there, and names that it does not have", () => {
    expectRefusal(iommukit(["check", inFolder("none.mjs")]), /there is no such file/);
    expectRefusal(
      iommukit(["check", counters, "other"]),
      /no harness "other"; it has atomic, torn/,
    );
    expectRefusal(iommukit(["check", counters, "./second.js"]), /one module at a time/);
  });

  it("refuses a module that imports another copy of the package, or none", () => {
    const far = join(folder, "far");
    const copy = join(far, "node_modules", "iommukit", "dist", "explore");
    mkdirSync(copy, { recursive: true });
    const lonely = join("far", "lonely.mjs");
    put(lonely, COUNTER);
    put(join("far", "node_modules", "iommukit", "package.json"), '{ "exports": {} }');
    expectRefusal(iommukit(["check", inFolder(lonely)]), /cannot import iommukit\/explore/);
    const exported = { "./explore": "./dist/explore/index.js" };
    put(
      join("far", "node_modules", "iommukit", "package.json"),
      JSON.stringify({ exports: exported }),
    );
    writeFileSync(join(copy, "index.js"), "export const check = () => {};\n");
    expectRefusal(iommukit(["check", inFolder(lonely)]), /imports another copy of iommukit/);
  });
});
