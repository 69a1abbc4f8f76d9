/** The command line as its users meet it: every bad input has one line that says what to do. */

import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
} from "node:fs";
import { describe, expect, it } from "vitest";
import {
  captureText,
  expectRefusal,
  fixture,
  fixtureBytes,
  iommukit,
  scratch,
  together,
} from "./command-line.js";

/** The smallest capture: 456 maps, a fraction of a second in each mode. */
const SMALL = fixture("smmu-dump-a.events.txt.gz");

const { folder, inFolder, put } = scratch();

describe("a wrong command line is refused in one line that names the flag and the remedy", () => {
  const refusals: [string[], RegExp][] = [
    [[], /no command given; `iommukit --help`/],
    [["replya", SMALL], /unknown command 'replya' \(Did you mean replay\?\); `iommukit --help`/],
    [["frobnicate"], /unknown command 'frobnicate'; `iommukit --help`/],
    [["help", "frobnicate"], /the command is missing or unknown; `iommukit --help`/],
    [["simulate"], /the command is missing or unknown; `iommukit --help`/],
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
  const cases: [string, string | Uint8Array | undefined, RegExp][] = [
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
    [
      "devices.txt",
      captureText(Array.from({ length: 4097 }, (_, index) => ({ device: `device${index}` }))),
      /devices\.txt: it names more than 4096 devices, .* record it again/,
    ],
  ];
  const replays = cases.map(([name, content, says]) => {
    const path = content === undefined ? inFolder(name) : put(name, content);
    return { name, args: ["replay", path], says };
  });
  const ended = together(replays.map(({ args }) => args));

  it.each(replays)("$name", ({ args, says }) => {
    expectRefusal(ended(args), says);
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

  const packed = readFileSync(fixture("smmu-nvme-strict.dat.gz"));
  const text = fixtureBytes("vtd-text-strict.trace.txt.gz");
  const whole = "copy the capture again, whole";
  const cases = [
    // In the magic, the formats, the symbols, the data of the last CPU, and one byte short.
    ...[5, 100, 4000, dat.length >> 1, dat.length - 5000, dat.length - 1].map((length) => ({
      ...{ what: "trace.dat", length, content: dat },
      says: `: ${length < 10 ? "" : "byte 0x[0-9a-f]+: "}.*; ${whole}`,
    })),
    ...[20, 60_000].map((length) => ({
      ...{ what: "gzip", length, content: packed },
      says: `: the gzip stream is cut short; ${whole}`,
    })),
    ...[4000, 1_000_007].map((length) => ({
      ...{ what: "text", length, content: text },
      says: `: line \\d+: .*; ${whole}`,
    })),
  ].map((one) => {
    const name = `cut-${one.what}-${one.length}`;
    return { ...one, name, args: ["replay", put(name, one.content.subarray(0, one.length))] };
  });
  const ended = together(cases.map(({ args }) => args));

  it.each(cases)("$what after $length bytes", ({ args, name, says }) => {
    expectRefusal(ended(args), new RegExp(`${name}${says}`));
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
    [1, 2, 3].map((seed) => {
      const bytes = Buffer.from(fixtureBytes(name));
      const length = within ?? bytes.length;
      const places = noise(3 * 4, seed);
      for (let flip = 0; flip < 3; flip++) {
        const at = new DataView(places.buffer).getUint32(flip * 4) % length;
        bytes[at] ^= 1 << (at % 8);
      }
      const path = put(`flipped-${within}-${seed}-${name}`, bytes);
      return { name, within, seed, args: ["replay", path, "--mode", "strict"] };
    }),
  );
  const all = together(cases.map(({ args }) => args));

  it.each(cases)("$name within $within, seed $seed", ({ args }) => {
    const ended = all(args);
    if (ended.code === 2) return expectRefusal(ended, /flipped\S*: .*; \S/);
    expect([0, 1]).toContain(ended.code);
    expect(ended.stderr).toBe("");
    expect(ended.stdout).toMatch(/│ strict /);
  });
});
