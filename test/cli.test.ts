/** The command line as its users meet it: every bad input has one line, good ones have results. */

import { spawn } from "node:child_process";
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import {
  bin,
  captureText,
  type Ended,
  fixture,
  fixtureBytes,
  iommukit,
  root,
  run,
  TIMEOUT_MS,
  together,
} from "./command-line.js";

/** The smallest capture: 456 maps, a fraction of a second in each mode. */
const SMALL = fixture("smmu-dump-a.events.txt.gz");
/** 28000 maps and unmaps: a second or more in one mode, enough to be interrupted. */
const LONG = fixture("smmu-nvme-strict.dat.gz");

const folder = mkdtempSync(join(tmpdir(), "iommukit-cli-"));
const inFolder = (name: string): string => join(folder, name);
function put(name: string, content: string | Uint8Array): string {
  writeFileSync(inFolder(name), content);
  return inFolder(name);
}

afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** One line, exit code 2, and nothing else. */
function expectRefusal({ code, stdout, stderr }: Ended, says: RegExp): void {
  expect(stderr).toMatch(/^iommukit: [^\n]+\n$/);
  expect(stderr).not.toMatch(/internal error|\.js:\d/);
  expect(stderr).toMatch(says);
  expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
}

describe("a wrong command line is refused in one line that names the flag and the remedy", () => {
  const refusals: [string[], RegExp][] = [
    [[], /no command given; `iommukit --help`/],
    [["replya", SMALL], /unknown command 'replya' \(Did you mean replay\?\); `iommukit --help`/],
    [["frobnicate"], /unknown command 'frobnicate'; `iommukit --help`/],
    [["help", "frobnicate"], /no such command; `iommukit --help`/],
    [["--frob"], /unknown option '--frob'; `iommukit --help`/],
    [["replay"], /missing required argument 'capture'; /],
    [["replay", ""], /'capture'\. it is the name of a file/],
    [["replay", SMALL, "other.dat"], /too many arguments for 'replay'.*; /],
    [["replay", SMALL, "--mod", "strict"], /unknown option '--mod' \(Did you mean --mode\?\)/],
    [["replay", SMALL, "--json=yes"], /unknown option '--json=yes'; /],
    [["replay", SMALL, "--mode", "fast"], /--mode .*choose from passthrough, strict, lazy/],
    [["replay", SMALL, "--mode", "strict,"], /--mode .*choose from passthrough, strict, lazy/],
    [["replay", SMALL, "--mode", ""], /--mode .*choose from passthrough, strict, lazy/],
    [["replay", SMALL, "--cpus", "0"], /--cpus .*from 1 to 1024/],
    [["replay", SMALL, "--cpus", "1025"], /--cpus .*from 1 to 1024/],
    [["replay", SMALL, "--cpus", "2.5"], /--cpus .*from 1 to 1024/],
    [["replay", SMALL, "--cpus", "0x10"], /--cpus .*from 1 to 1024/],
    [["replay", SMALL, "--cpus", ""], /--cpus .*from 1 to 1024/],
    [["replay", SMALL, "--cpus"], /--cpus <n>' argument missing; /],
    [["replay", SMALL, "--seed", "dice"], /--seed .*from 0 to 4294967295/],
    [["replay", SMALL, "--seed", "-1"], /--seed .*from 0 to 4294967295/],
    // Beyond 32 bits different seeds would give the same run.
    [["replay", SMALL, "--seed", "4294967296"], /--seed .*from 0 to 4294967295/],
    [["replay", SMALL, "--seed", " "], /--seed .*from 0 to 4294967295/],
    [["replay", SMALL, "--pace", "slow"], /--pace .*captured, closed/],
    [["replay", SMALL, "--iova", "mine"], /--iova .*allocated, captured/],
    [["replay", SMALL, "--profile", "fast-arm"], /--profile: .*choose from generic-arm/],
    [["replay", SMALL, "--iommu", "vtd"], /--iommu .*choices are smmuv3/],
    [["replay", SMALL, "--commands", "c.tsv"], /--commands .*--mode has 3; add --mode strict/],
    [["replay", SMALL, "--mode", "strict", "--commands", ""], /--commands .*the name of a file/],
  ];
  const ended = together(
    refusals.map(([args]) => args),
    { cwd: folder },
  );

  it.each(refusals)("%j", (args, says) => {
    expectRefusal(ended(args), says);
    expect(existsSync(inFolder("c.tsv"))).toBe(false);
  });
});

describe("--commands never harms what is there", () => {
  const strictTo = (target: string, capture = SMALL) =>
    iommukit(["replay", capture, "--mode", "strict", "--commands", target], { cwd: folder });

  it("refuses a missing folder, a folder, what is no file, and the capture itself", () => {
    const capture = put("capture.txt", captureText([{}]));
    mkdirSync(inFolder("a-folder"));
    const before = readdirSync(folder);
    expectRefusal(strictTo("missing/c.tsv"), /--commands: .*missing\/c\.tsv \(ENOENT\); name/);
    expectRefusal(strictTo("a-folder"), /--commands: a-folder is no regular file; name another/);
    expectRefusal(strictTo("/dev/null"), /--commands: \/dev\/null is no regular file/);
    expectRefusal(strictTo("capture.txt", capture), /--commands: capture\.txt is the capture/);
    symlinkSync(capture, inFolder("other-name"));
    expectRefusal(strictTo("other-name", capture), /--commands: other-name is the capture/);
    rmSync(inFolder("other-name"));
    expect(readFileSync(capture, "utf8")).toBe(captureText([{}]));
    expect(readdirSync(folder)).toEqual(before);
  });

  it("leaves the old file, and no other, when the capture turns out damaged", () => {
    const many = Array.from({ length: 2000 }, (_, n) => ({ seconds: n + 1 }));
    const sound = captureText(many);
    const damaged = `${sound}${captureText([{}]).replaceAll("FROM_DEVICE", "SIDEWAYS")}`;
    const old = put("old.tsv", "old\n");
    const before = readdirSync(folder);
    expectRefusal(
      strictTo(old, put("damaged.txt", damaged)),
      // Two lines each, two before them, and two before the damaged one.
      /damaged\.txt: line 4005: event dma_map_page: dir is no DMA direction; copy or record/,
    );
    expect(readFileSync(old, "utf8")).toBe("old\n");
    expect(readdirSync(folder)).toEqual([...before, "damaged.txt"].sort());
  });

  it("follows a symbolic link and keeps it", () => {
    const target = put("linked.tsv", "old\n");
    symlinkSync(target, inFolder("link.tsv"));
    expect(strictTo("link.tsv", put("linked.txt", captureText([{}]))).code).toBe(0);
    expect(lstatSync(inFolder("link.tsv")).isSymbolicLink()).toBe(true);
    expect(readFileSync(target, "utf8")).toMatch(/^#t_ns\t/);
  });
});

describe("a capture that cannot be read is refused in one line: file, place, remedy", () => {
  it.each<[string, string | Uint8Array | undefined, RegExp]>([
    ["missing.dat", undefined, /missing\.dat: there is no such file; check the path/],
    ["empty.dat", "", /empty\.dat: there is nothing in it; record with/],
    ["prose.txt", "Dear diary,\ntoday\n", /prose\.txt: this is no trace that we know; give a/],
    ["noise.dat", noise(100_000, 1), /noise\.dat: this is no trace that we know; give a/],
    ["zeros.dat", new Uint8Array(5000), /zeros\.dat: this is no trace that we know; give a/],
    ["two\nlines", undefined, /two\?lines: there is no such file/],
    [
      "no-dma.txt",
      "# tracer: nop\n  fio-297 [000] d..1. 6.249555: sched_switch: x\n",
      /no-dma\.txt: no DMA mapping among its 1 events; record with `trace-cmd/,
    ],
    [
      "no-cpu.txt",
      captureText([{ cpu: 5000 }]),
      /no-cpu\.txt: the capture is of 5001 CPUs, .* 1024 at most; spread it with --cpus/,
    ],
    [
      "no-size.txt",
      captureText([{}, { seconds: 7, sizeBytes: 0 }]),
      /no-size\.txt: at 7\.000001000 s 0000:00:01\.0 maps 0 bytes; .* record it again/,
    ],
  ])("%j", (name, content, says) => {
    const path = content === undefined ? inFolder(name) : put(name, content);
    expectRefusal(iommukit(["replay", path]), says);
  });

  it("a folder", () => {
    expectRefusal(iommukit(["replay", folder]), /this is a directory; name the trace file/);
  });

  it.skipIf(process.getuid?.() === 0)("a file without permission", () => {
    const path = put("secret.dat", captureText([{}]));
    chmodSync(path, 0);
    expectRefusal(iommukit(["replay", path]), /secret\.dat: .*EACCES.*; check the file/);
  });

  it("standard input without anything", () => {
    expectRefusal(iommukit(["replay", "-"]), /standard input: there is nothing in it; record/);
  });

  it("--iova captured without IOVAs in it", () => {
    const path = put("dma-only.txt", captureText([{}]));
    const ended = iommukit(["replay", path, "--iova", "captured"]);
    expectRefusal(ended, /dma-only\.txt: --iova captured .* record with -e iommu too/);
  });
});

describe("a truncated capture is refused in one line with the place", () => {
  const dat = fixtureBytes("smmu-nvme-strict.dat.gz");

  // In the magic, the formats, the symbols, the data of the last CPU, and one byte short.
  it.each([5, 100, 4000, dat.length >> 1, dat.length - 5000, dat.length - 1])(
    "trace.dat after %i bytes",
    (length) => {
      const ended = iommukit(["replay", put("cut.dat", dat.subarray(0, length))]);
      const place = length < 10 ? "" : "byte 0x[0-9a-f]+: ";
      expectRefusal(ended, new RegExp(`cut\\.dat: ${place}.*; copy the capture again, whole`));
    },
  );

  it.each([20, 60_000])("gzip after %i bytes", (length) => {
    const packed = readFileSync(fixture("smmu-nvme-strict.dat.gz")).subarray(0, length);
    const ended = iommukit(["replay", put("cut.gz", packed)]);
    expectRefusal(ended, /cut\.gz: the gzip stream is cut short; copy the capture again, whole/);
  });

  it.each([4000, 1_000_007])("text after %i bytes", (length) => {
    const text = fixtureBytes("vtd-text-strict.trace.txt.gz").subarray(0, length);
    const ended = iommukit(["replay", put("cut.txt", text)]);
    expectRefusal(ended, /cut\.txt: line \d+: .*; copy the capture again, whole/);
  });
});

/** Bytes of a linear congruential generator: the same at every run. */
function noise(length: number, seed: number): Uint8Array {
  const bytes = new Uint8Array(length);
  let state = seed;
  for (let at = 0; at < length; at++) {
    // Constants of Numerical Recipes; its low bits are poor, hence the high ones.
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    bytes[at] = state >>> 24;
  }
  return bytes;
}

describe("a capture with flipped bits is replayed or refused in one line", () => {
  // The metadata of a trace.dat lie in its first 40 KB; a text is all alike.
  const sources = [
    ["smmu-dump-a.dat", 40_000],
    ["smmu-dump-a.dat", undefined],
    ["smmu-dump-a.events.txt.gz", undefined],
  ] as const;
  const cases = sources.flatMap(([name, within]) =>
    [1, 2, 3].map((seed) => [name, within, seed] as const),
  );

  it.each(cases)("%s within %s, seed %i", (name, within, seed) => {
    const bytes = Buffer.from(fixtureBytes(name));
    const length = within ?? bytes.length;
    const places = noise(3 * 4, seed);
    for (let flip = 0; flip < 3; flip++) {
      const at = new DataView(places.buffer).getUint32(flip * 4) % length;
      bytes[at] ^= 1 << (at % 8);
    }
    const ended = iommukit(["replay", put("flipped", bytes), "--mode", "strict"]);
    if (ended.code === 2) return expectRefusal(ended, /flipped: .*; \S/);
    expect([0, 1]).toContain(ended.code);
    expect(ended.stderr).toBe("");
    expect(ended.stdout).toMatch(/│ strict /);
  });
});

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

  it("is the same from a file, gzipped, and through standard input", () => {
    const text = fixtureBytes("smmu-dump-a.events.txt.gz");
    const plain = iommukit(["replay", put("plain.txt", text), ...strictly]);
    expect(plain.code).toBe(0);
    for (const input of [text, gzipSync(text)]) {
      const piped = iommukit(["replay", "-", ...strictly], { input });
      expect(modesOf(piped)).toEqual(modesOf(plain));
      expect(JSON.parse(piped.stdout).capture.file).toBe("standard input");
    }
    expect(modesOf(iommukit(["replay", SMALL, ...strictly]))).toEqual(modesOf(plain));
  });

  it("is the same as text and as trace.dat", () => {
    const binary = iommukit(["replay", fixture("smmu-dump-a.dat"), ...strictly]);
    expect(modesOf(binary)).toEqual(modesOf(iommukit(["replay", SMALL, ...strictly])));
  });

  it("may come through `cat`", () => {
    const command = `cat "$1" | "$2" "$3" replay - --mode strict --json`;
    const piped = run("sh", ["-c", command, "sh", SMALL, process.execPath, bin]);
    expect(modesOf(piped)).toEqual(modesOf(iommukit(["replay", SMALL, ...strictly])));
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
    const command = '"$1" "$2" replay "$3" | head -c 0; echo $PIPESTATUS';
    const gone = run("bash", ["-c", command, "bash", process.execPath, bin, SMALL]);
    expect(gone).toEqual({ code: 0, stdout: "0\n", stderr: "" });
    const first = 'set -o pipefail; "$1" "$2" replay "$3" | head -1';
    const line = run("bash", ["-c", first, "bash", process.execPath, bin, SMALL]);
    expect(line).toMatchObject({ code: 0, stderr: "" });
    expect(line.stdout.split("\n")).toHaveLength(2);
  });

  it.skipIf(!existsSync("/dev/full"))("says that the disk is full", () => {
    const command = '"$1" "$2" replay "$3" > /dev/full';
    const ended = run("sh", ["-c", command, "sh", process.execPath, bin, SMALL]);
    expectRefusal(ended, /standard output: writing failed \(ENOSPC\); write it elsewhere/);
  });

  const helps = [["--help"], ["-h"], ["help"], ["replay", "--help"], ["help", "replay"]];
  const versions = [["--version"], ["-V"]];
  const ended = together([...helps, ...versions]);

  it.each(helps.map((args) => ({ args })))("helps: $args", ({ args }) => {
    const { code, stdout, stderr } = ended(args);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    expect(stdout).toMatch(/^Usage: iommukit /);
    if (args.includes("replay")) expect(stdout).toMatch(/--commands <file>/);
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

  it("has colour, unless NO_COLOR is set and not empty", () => {
    const dim = "\x1b[2m";
    expect(on(`${command} 2>/dev/null`).stdout).toContain(dim);
    expect(on(`NO_COLOR= ${command} 2>/dev/null`).stdout).toContain(dim);
    expect(on(`NO_COLOR=1 ${command} 2>/dev/null`).stdout).not.toContain("\x1b");
  });
});

describe("Ctrl-C", () => {
  interface Child {
    readonly process: ReturnType<typeof spawn>;
    readonly ended: Promise<Ended>;
  }

  function start(args: readonly string[], temporary: string): Child {
    const child = spawn(process.execPath, [bin, ...args], {
      cwd: folder,
      env: { ...process.env, TMPDIR: temporary },
      timeout: TIMEOUT_MS,
    });
    let stdout = "";
    let stderr = "";
    child.stdout.on("data", (data) => {
      stdout += data;
    });
    child.stderr.on("data", (data) => {
      stderr += data;
    });
    const ended = new Promise<Ended>((resolve) => {
      child.on("close", (code) => resolve({ code, stdout, stderr }));
    });
    return { process: child, ended };
  }

  const isStarted = (): boolean =>
    readdirSync(folder).some(
      (name) => name.startsWith("interrupted.tsv.") && statSync(inFolder(name)).size > 0,
    );

  it("in the middle of a replay: exit code 130, no output, the old file and no other", async () => {
    const temporary = mkdtempSync(inFolder("temporary-"));
    const old = put("interrupted.tsv", "old\n");
    // Many CPUs that contend for one queue: more than a second of work.
    const args = ["replay", LONG, "--mode", "strict", "--cpus", "256", "--commands", old];
    const child = start(args, temporary);
    // Its first commands are written: it is in the middle.
    while (!isStarted() && child.process.exitCode === null) {
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    child.process.kill("SIGINT");
    expect(await child.ended).toEqual({ code: 130, stdout: "", stderr: "" });
    expect(readFileSync(old, "utf8")).toBe("old\n");
    expect(readdirSync(folder).filter((name) => name.endsWith(".tmp"))).toEqual([]);
    expect(readdirSync(temporary)).toEqual([]);
  });

  it("while standard input is still coming: the same", async () => {
    const temporary = mkdtempSync(inFolder("temporary-"));
    const child = start(["replay", "-"], temporary);
    // More than a pipe holds (64 KiB): once it is all gone, somebody is reading.
    const text = captureText(Array.from({ length: 20_000 }, () => ({})));
    await new Promise((resolve) => child.process.stdin?.write(text, resolve));
    child.process.kill("SIGINT");
    expect(await child.ended).toEqual({ code: 130, stdout: "", stderr: "" });
    expect(readdirSync(temporary)).toEqual([]);
  });
});
