/** Every command that reads a file refuses what is none of its files: what, where, what to do. */

import { mkdirSync } from "node:fs";
import { describe, it } from "vitest";
import { expectRefusal, fixture, scratch, together } from "./command-line.js";

const { folder, inFolder, put } = scratch();

/** Random enough to be nobody's format: no text, no JSON, no magic number. */
const BINARY = Uint8Array.from({ length: 20_000 }, (_, index) => (index * index * 31) & 0xff);

const FAULT = ["0x0000000800000010", "0x0000020000000000", "0x00000000fffc0000", "0x0"];
const DUMP = fixture("smmu-dump-a/mem.bin.gz");
const REGISTERS = fixture("smmu-dump-a/regs.json");

const READERS: readonly (readonly [string, (file: string) => string[]])[] = [
  ["replay", (file) => ["replay", file]],
  ["explain", (file) => ["explain", file]],
  ["explain --capture", (file) => ["explain", "--capture", file, ...FAULT]],
  ["walk", (file) => ["walk", file, "--regs", REGISTERS, "--all"]],
  ["walk --regs", (file) => ["walk", DUMP, "--regs", file, "--all"]],
  ["calibrate", (file) => ["calibrate", `strict=${file}`]],
  ["bench --profile", (file) => ["bench", "--profile", file]],
  ["simulate --profile", (file) => ["simulate", "nvme", "--profile", file]],
  ["check --replay", (file) => ["check", "--replay", file]],
  ["check --state", (file) => ["check", "rcu-call", "--memory-model", "sc", "--state", file]],
];

/** Raw memory may be anything, and a --state that is not there begins a search. */
const MAY_BE = new Set([
  ...["walk: binary", "walk: JSON of something else", "walk: JSON cut short"],
  "check --state: missing",
]);

mkdirSync(inFolder("folder"));
const FILES: readonly (readonly [string, string])[] = [
  ["missing", inFolder("missing")],
  ["empty", put("empty", "")],
  ["binary", put("binary", BINARY)],
  ["JSON of something else", put("other.json", '{ "something": ["else"] }\n')],
  ["JSON cut short", put("cut.json", '{ "something": [')],
  ["a folder", inFolder("folder")],
  ["a device", "/dev/null"],
];

const cases = READERS.flatMap(([reader, argsFor]) =>
  FILES.map(([kind, file]) => ({ title: `${reader}: ${kind}`, file, args: argsFor(file) })),
).filter(({ title }) => !MAY_BE.has(title));
const ended = together(
  cases.map(({ args }) => args),
  { cwd: folder },
);

describe("a file that is not what it should be is refused in one line that names it", () => {
  it.each(cases)("$title", ({ args, file }) => {
    const name = file.replaceAll(/[.]/g, "\\.");
    // What is wrong with it comes behind its name, and then the remedy.
    expectRefusal(ended(args), new RegExp(`${name}.+[;:] .+`));
  });
});
