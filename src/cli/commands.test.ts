/** Commands are loaded when they are named, and until then described as they describe themselves. */

import { readFileSync } from "node:fs";
import { Command, Help } from "commander";
import { describe, expect, it } from "vitest";
import { COMMANDS, namedCommand } from "./commands.js";

describe("the list of commands", () => {
  it.each(COMMANDS)("shows of $name what its module takes", async ({ name, takes, load }) => {
    const command = new Command(name);
    (await load())(command, () => {});
    // `simulate` has commands below it, and takes nothing itself.
    expect(new Help().subcommandTerm(command)).toBe(name + takes);
  });
});

describe("the command that a command line names", () => {
  it.each<[string[], string | undefined]>([
    [["replay", "bench"], "replay"],
    [["replay", "--help"], "replay"],
    [["help", "walk"], "walk"],
    [["--", "check"], "check"],
    [["--version"], undefined],
    [["--help", "bench"], "bench"],
    [["help"], undefined],
    [["benhc"], undefined],
    [[], undefined],
  ])("%j: %s", (args, name) => {
    expect(namedCommand(args)?.name).toBe(name);
  });
});

describe("the start of the command line", () => {
  /** The modules that a module of this room loads before it runs, itself included. */
  function loadedBy(name: string, found = new Set<string>()): Set<string> {
    if (found.has(name)) return found;
    found.add(name);
    if (!name.startsWith("./")) return found;
    const source = readFileSync(new URL(name.replace(/\.js$/, ".ts"), import.meta.url), "utf8");
    for (const [, imported] of source.matchAll(/^(?:import|\}) (?!type ).*"(.+)";$/gm)) {
      loadedBy(imported, found);
    }
    return found;
  }

  it("sees what a command loads", () => {
    expect(loadedBy("./replay-command.js")).toContain("#workloads");
  });

  it("loads no room of the stack", () => {
    const others = [...loadedBy("./main.js")].filter((name) => !name.startsWith("./"));
    expect(others.sort()).toEqual(["commander", "node:module"]);
  });
});
