/** The command line's results: JSON, command files, pipes, terminals, and Ctrl-C. */

import { existsSync, mkdtempSync, readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { beforeAll, describe, expect, it } from "vitest";
import { COMMANDS } from "../src/cli/commands.js";
import {
  bin,
  captureText,
  type Ended,
  expectRefusal,
  fixture,
  fixtureBytes,
  interruptWhen,
  iommukit,
  root,
  run,
  type Started,
  scratch,
  start,
  together,
} from "./command-line.js";

/** The smallest capture: 456 maps, a fraction of a second in each mode. */
const SMALL = fixture("smmu-dump-a.events.txt.gz");
/** 28000 maps and unmaps: a second or more in one mode, enough to be interrupted. */
const LONG = fixture("smmu-nvme-strict.dat.gz");

const { folder, inFolder, put } = scratch();

const numbers = (...names: string[]) =>
  Object.fromEntries(names.map((name) => [name, expect.any(Number)]));

describe("--json", () => {
  const args = ["replay", SMALL, "--json", "--cpus", "8", "--seed", "7"];
  let first: Ended;
  beforeAll(() => {
    first = iommukit(args);
  });

  it("has the documented shape", () => {
    expect(first.code).toBe(0);
    const latency = expect.objectContaining(numbers("mean", "p50", "p99"));
    const mode = (name: string) =>
      expect.objectContaining({
        mode: name,
        ...numbers("opsPerSecond", "cpuNsPerOp", "flushes"),
        mapLatencyNs: latency,
        unmapLatencyNs: latency,
        invalidations: expect.objectContaining(numbers("CMD_SYNC")),
        iotlb: numbers("hits", "misses"),
      });
    const report = JSON.parse(first.stdout);
    expect(report).toEqual(
      expect.objectContaining({
        capture: expect.objectContaining({
          file: SMALL,
          devices: ["9050000.smmuv3", "", "0000:00:01.0", "0000:00:02.0"],
          // As the recording's summary counts them.
          events: 1846,
          maps: 456,
          unmaps: 186,
          cpus: 2,
          lost: 0,
          ...numbers("durationNs"),
        }),
        profile: "generic-arm",
        iommu: "smmuv3",
        modes: ["passthrough", "strict", "lazy"].map(mode),
      }),
    );
    // What was never unmapped: 456 maps less 186 unmaps.
    expect(report.findings).toEqual([
      { kind: "never-unmapped", count: 270, message: expect.any(String) },
    ]);
    for (const one of report.modes) {
      for (const [name, count] of Object.entries(one.invalidations)) {
        expect(name).toMatch(/^CMD_[A-Z_]+$/);
        expect(count).toBeGreaterThanOrEqual(0);
      }
    }
  });

  it("is the same at the same seed", () => {
    expect(iommukit(args).stdout).toBe(first.stdout);
  });

  it("orders the modes as the table does, each once", () => {
    const { stdout } = iommukit(["replay", SMALL, "--json", "--mode", "lazy,strict,lazy"]);
    const modes = JSON.parse(stdout).modes.map(({ mode }: { mode: string }) => mode);
    expect(modes).toEqual(["strict", "lazy"]);
  });

  it("says what a capture lost", () => {
    const text = `${captureText([{}])}CPU:1 [LOST 25 EVENTS]\nCPU:1 [EVENTS DROPPED]\n`;
    const { stdout } = iommukit(["replay", put("lossy.txt", text), "--json", "--mode", "lazy"]);
    const report = JSON.parse(stdout);
    expect(report.capture.lost).toBe(25);
    expect(report.findings).toEqual([
      expect.objectContaining({ kind: "lost-events", count: 25 }),
      expect.objectContaining({ kind: "unknown-losses", count: 1 }),
    ]);
  });
});

describe("the command file", () => {
  const target = "commands.tsv";
  let ended: Ended;
  let lines: string[];
  beforeAll(() => {
    ended = iommukit(
      ["replay", SMALL, "--mode", "strict", "--json", "--cpus", "8", "--commands", target],
      { cwd: folder },
    );
    lines = readFileSync(inFolder(target), "utf8").split("\n");
  });

  it("has a header and one line for each command: time, CPU, opcode, fields", () => {
    expect(lines[0]).toBe("#t_ns\tcpu\top\tfields");
    expect(lines.pop()).toBe("");
    let beforeNs = 0;
    for (const line of lines.slice(1)) {
      const fields = /^(\d+)\t(\d+)\tCMD_[A-Z_]+\t(?:\w+=(?:0x)?[0-9a-f]+ ?)*$/.exec(line);
      expect(fields, line).not.toBeNull();
      // Hardware consumes one after the other.
      expect(Number(fields?.[1])).toBeGreaterThanOrEqual(beforeNs);
      beforeNs = Number(fields?.[1]);
    }
  });

  it("has the counted commands behind those of the set-up", () => {
    const { invalidations } = JSON.parse(ended.stdout).modes[0];
    const opcodes = lines.map((line) => line.split("\t")[2]);
    // One unmap, one invalidation, one sync; 186 unmaps, of one range each.
    expect(invalidations).toMatchObject({ CMD_TLBI_NH_VA: 186, CMD_SYNC: 186 });
    const syncs = opcodes.filter((opcode) => opcode === "CMD_SYNC").length;
    expect(syncs).toBeGreaterThan(invalidations.CMD_SYNC);
    expect(opcodes.indexOf("CMD_CFGI_STE")).toBeLessThan(opcodes.indexOf("CMD_TLBI_NH_VA"));
    expect(opcodes.filter((opcode) => opcode === "CMD_TLBI_NH_VA")).toHaveLength(186);
  });

  it("shows --cpus 8: all of them invalidate", () => {
    const cpus = lines
      .filter((line) => line.includes("\tCMD_TLBI_NH_VA\t"))
      .map((line) => Number(line.split("\t")[1]));
    expect([...new Set(cpus)].sort()).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
  });
});

describe("input", () => {
  const strictly = ["--mode", "strict", "--json"];
  const modesOf = ({ stdout }: Ended) => JSON.parse(stdout).modes;

  const text = fixtureBytes("smmu-dump-a.events.txt.gz");
  const packed = ["replay", SMALL, ...strictly];
  const plain = ["replay", put("plain.txt", text), ...strictly];
  const binary = ["replay", fixture("smmu-dump-a.dat"), ...strictly];
  const fromFile = together([packed, plain, binary]);

  it("is the same from a file, gzipped, and through standard input", () => {
    expect(fromFile(plain).code).toBe(0);
    for (const input of [text, gzipSync(text)]) {
      const piped = iommukit(["replay", "-", ...strictly], { input });
      expect(modesOf(piped)).toEqual(modesOf(fromFile(plain)));
      expect(JSON.parse(piped.stdout).capture.file).toBe("standard input");
    }
    expect(modesOf(fromFile(packed))).toEqual(modesOf(fromFile(plain)));
  });

  it("is the same as text and as trace.dat", () => {
    expect(modesOf(fromFile(binary))).toEqual(modesOf(fromFile(packed)));
  });

  it("may come through `cat`", () => {
    const command = `cat "$1" | "$2" "$3" replay - --mode strict --json`;
    const piped = run("sh", ["-c", command, "sh", SMALL, process.execPath, bin]);
    expect(modesOf(piped)).toEqual(modesOf(fromFile(packed)));
  });
});

describe("output", () => {
  it("has neither bar nor colour in a pipe", () => {
    const { code, stdout, stderr } = iommukit(["replay", SMALL]);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    expect(stdout).not.toContain("\x1b");
    expect(stdout).toMatch(/│ passthrough .*\n│ strict .*\n│ lazy /);
    expect(stdout).toContain("note: 270 mappings were still live when the capture ended\n");
  });

  it("keeps what a capture says from the terminal's control characters", () => {
    const path = put("evil.txt", captureText([{ device: "a\x1b[31mb" }]));
    const { code, stdout } = iommukit(["replay", path, "--mode", "lazy"]);
    expect(code).toBe(0);
    expect(stdout).toContain("a?[31mb");
    expect(stdout).not.toContain("\x1b");
  });

  it("stays short with very many devices", () => {
    const devices = Array.from({ length: 50 }, (_, n) => ({ device: `dev${n}`, seconds: n + 1 }));
    const path = put("devices.txt", captureText(devices));
    const { stdout } = iommukit(["replay", path, "--mode", "lazy"]);
    // Eight things are named: seven devices, and the rest of the 50.
    expect(stdout.split("\n")[0]).toMatch(/ dev0 .* dev6 and 43 more$/);
  });

  it("ends quietly when its reader has seen enough", () => {
    // The reader is gone before anything is written.
    const command = '"$1" "$2" replay "$3" --mode lazy | head -c 0; echo $PIPESTATUS';
    const gone = run("bash", ["-c", command, "bash", process.execPath, bin, SMALL]);
    expect(gone).toEqual({ code: 0, stdout: "0\n", stderr: "" });
    const first = 'set -o pipefail; "$1" "$2" replay "$3" --mode lazy | head -1';
    const line = run("bash", ["-c", first, "bash", process.execPath, bin, SMALL]);
    expect(line).toMatchObject({ code: 0, stderr: "" });
    expect(line.stdout.split("\n")).toHaveLength(2);
  });

  it.skipIf(!existsSync("/dev/full"))("says that the disk is full", () => {
    const command = '"$1" "$2" replay "$3" --mode lazy > /dev/full';
    const ended = run("sh", ["-c", command, "sh", process.execPath, bin, SMALL]);
    expectRefusal(ended, /standard output: writing failed \(ENOSPC\); write it elsewhere/);
  });

  const all = COMMANDS.map(({ name }) => [name, "--help"]);
  const below = [
    ["help", "replay"],
    ["simulate", "nvme", "--help"],
  ];
  const helps = [["--help"], ["-h"], ["help"], ...all, ...below];
  const versions = [["--version"], ["-V"]];
  const ended = together([...helps, ...versions]);

  it.each(helps.map((args) => ({ args })))("helps: $args", ({ args }) => {
    const { code, stdout, stderr } = ended(args);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    expect(stdout).toMatch(/^Usage: iommukit /);
    if (args.includes("replay")) expect(stdout).toMatch(/--commands <file>/);
    // Of every command, and of nothing else: the same codes for the same.
    const codes = /\nExit codes: 0 done,.* 2 usage or input error, 130 stopped by Ctrl-C\.\n$/;
    if (args.some((arg) => COMMANDS.some(({ name }) => name === arg))) {
      expect(stdout).toMatch(codes);
    } else expect(stdout).not.toContain("Exit codes");
  });

  it.each(versions.map((args) => ({ args })))("tells its version: $args", ({ args }) => {
    const { version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
    expect(ended(args)).toEqual({ code: 0, stdout: `${version}\n`, stderr: "" });
  });

  it("is exit code 1 when the work found a problem", () => {
    // 4 PiB are more than any page table here maps.
    const path = put("huge.txt", captureText([{ sizeBytes: 2 ** 52 }]));
    const { code, stdout, stderr } = iommukit(["replay", path, "--mode", "strict"]);
    expect({ code, stderr }).toEqual({ code: 1, stderr: "" });
    expect(stdout).toMatch(/problem: 1 maps failed in the replay/);
  });
});

/** Runs a shell command on a terminal of its own, by what the system has; undefined without. */
const onTerminal = ((): ((command: string) => Ended) | undefined => {
  const has = (program: string, args: string[], says: RegExp): boolean => {
    try {
      return says.test(run(program, args).stdout);
    } catch {
      return false;
    }
  };
  if (has("script", ["--version"], /util-linux/)) {
    return (command) => run("script", ["-qec", command, "/dev/null"]);
  }
  const python = "import os, pty, sys; sys.exit(os.WEXITSTATUS(pty.spawn(sys.argv[1:])))";
  if (has("python3", ["-c", "import pty; print('yes')"], /yes/)) {
    return (command) => run("python3", ["-c", python, "sh", "-c", command]);
  }
  return undefined;
})();

describe.skipIf(onTerminal === undefined)("on a terminal", () => {
  const command = `"${process.execPath}" "${bin}" replay "${SMALL}"`;
  const on = (line: string): Ended => (onTerminal as (command: string) => Ended)(line);

  it("shows what is read and a bar for each mode, takes it away and gives the cursor back", () => {
    const output = inFolder("table.txt");
    // The table goes to a file: what is left on the terminal is standard error.
    const { code, stdout } = on(`${command} > "${output}"`);
    expect(code).toBe(0);
    expect(stdout).toMatch(/reading the capture: maps and unmaps 0/);
    for (const mode of ["passthrough", "strict", "lazy"]) {
      expect(stdout).toMatch(new RegExp(`${mode} +[█░]+ \\d+%`));
    }
    const [hide, show] = ["\x1b[?25l", "\x1b[?25h"];
    expect(stdout.lastIndexOf(show)).toBeGreaterThan(stdout.lastIndexOf(hide));
    expect(readFileSync(output, "utf8")).not.toContain("\x1b");
  });

  it("hides no cursor in a search, which may lose its reader as it goes", () => {
    // A few seconds of search: long enough for the line of progress.
    const check = `"${process.execPath}" "${bin}" check flush-queue-timer --memory-model weak`;
    const { code, stdout } = on(check);
    expect(code).toBe(0);
    expect(stdout).toContain("flush-queue-timer weak: executions");
    // Neither the cursor nor the wrapping of lines is taken away.
    for (const taken of ["\x1b[?25l", "\x1b[?7l"]) expect(stdout).not.toContain(taken);
  });

  it("has colour, unless NO_COLOR is set and not empty", () => {
    const dim = "\x1b[2m";
    const one = `${command} --mode passthrough 2>/dev/null`;
    expect(on(one).stdout).toContain(dim);
    expect(on(`NO_COLOR= ${one}`).stdout).toContain(dim);
    expect(on(`NO_COLOR=1 ${one}`).stdout).not.toContain("\x1b");
  });
});

describe("Ctrl-C", () => {
  const startIn = (args: readonly string[], temporary: string): Started =>
    start(args, { cwd: folder, env: { TMPDIR: temporary } });

  const isStarted = (): boolean =>
    readdirSync(folder).some(
      (name) => name.startsWith("interrupted.tsv.") && statSync(inFolder(name)).size > 0,
    );

  it("in the middle of a replay: exit code 130, no output, the old file and no other", async () => {
    const temporary = mkdtempSync(inFolder("temporary-"));
    const old = put("interrupted.tsv", "old\n");
    // Many CPUs that contend for one queue: more than a second of work.
    const args = ["replay", LONG, "--mode", "strict", "--cpus", "256", "--commands", old];
    const child = startIn(args, temporary);
    // Its first commands are written: it is in the middle.
    expect(await interruptWhen(child, isStarted)).toEqual({ code: 130, stdout: "", stderr: "" });
    expect(readFileSync(old, "utf8")).toBe("old\n");
    expect(readdirSync(folder).filter((name) => name.endsWith(".tmp"))).toEqual([]);
    expect(readdirSync(temporary)).toEqual([]);
  });

  it("in the middle of a simulation: the same", async () => {
    const old = put("stacks.folded", "old\n");
    const isThere = (): boolean =>
      readdirSync(folder).some((name) => name.startsWith("stacks.folded."));
    // Hours of work, were it not interrupted.
    const args = ["simulate", "nvme", "--cpus", "64", "--runtime", "1000", "--why", old];
    const child = startIn(args, folder);
    expect(await interruptWhen(child, isThere)).toEqual({ code: 130, stdout: "", stderr: "" });
    expect(readFileSync(old, "utf8")).toBe("old\n");
    expect(readdirSync(folder).filter((name) => name.endsWith(".tmp"))).toEqual([]);
  });

  it("while standard input is still coming: the same", async () => {
    const temporary = mkdtempSync(inFolder("temporary-"));
    const child = startIn(["replay", "-"], temporary);
    // More than a pipe holds (64 KiB): once it is all gone, somebody is reading.
    const text = captureText(Array.from({ length: 20_000 }, () => ({})));
    await new Promise((resolve) => child.process.stdin?.write(text, resolve));
    child.process.kill("SIGINT");
    expect(await child.ended).toEqual({ code: 130, stdout: "", stderr: "" });
    expect(readdirSync(temporary)).toEqual([]);
  });
});
