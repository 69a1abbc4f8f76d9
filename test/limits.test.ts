/** What the command line promises of its appetite: memory by a window, time by the length. */

import { spawnSync } from "node:child_process";
import {
  closeSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { bin, fixture, fixtureBytes, root, TIMEOUT_MS } from "./command-line.js";

/** What a small machine can spare beside the work that it is there for. */
const MEMORY_MAX_KB = 400 * 1024;
/** Repetitions of a recording of 14,000 maps: ten times the largest bundled one, and a little. */
const TIMES = 29;

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "iommukit-limits-"));
  writeFileSync(join(folder, "usage.mjs"), USAGE_MODULE);
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/**
 * Loaded into the measured process: at its end it says what the operating system counted. Peak
 * memory is VmHWM: on Linux the maximum of getrusage() begins at the size of the parent.
 */
const USAGE_MODULE = `
import { existsSync, readFileSync, writeFileSync } from "node:fs";
process.on("exit", () => {
  const usage = process.resourceUsage();
  const status = "/proc/self/status";
  if (existsSync(status)) {
    usage.maxRSS = Number(/VmHWM:\\s*(\\d+) kB/.exec(readFileSync(status, "utf8"))[1]);
  }
  writeFileSync(process.env.IOMMUKIT_TEST_USAGE, JSON.stringify(usage));
});
`;

interface Measured {
  readonly maxRssKb: number;
  readonly userSeconds: number;
  readonly maps: number;
}

function measure(capture: string, modes: string): Measured {
  const usage = join(folder, "usage.json");
  const loader = pathToFileURL(join(folder, "usage.mjs")).href;
  const args = ["--import", loader, bin, "replay", capture, "--json", "--mode", modes];
  const { status, stdout, stderr } = spawnSync(process.execPath, args, {
    encoding: "utf8",
    env: { ...process.env, IOMMUKIT_TEST_USAGE: usage },
    timeout: TIMEOUT_MS,
  });
  expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
  const { maxRSS, userCPUTime } = JSON.parse(readFileSync(usage, "utf8"));
  return {
    maxRssKb: maxRSS,
    userSeconds: userCPUTime / 1e6,
    maps: JSON.parse(stdout).capture.maps,
  };
}

/** The events of mapping in a recording of 14000 maps, as lines of text. */
function mappingLines(): string[] {
  const text = fixtureBytes("smmu-nvme-lazy.report.txt.gz").toString("latin1");
  return text.split("\n").filter((line) => /: (?:map|unmap|dma_(?:un)?map_\w+): /.test(line));
}

/** The recording so many times, one after the other, in the text of `trace-cmd report`. */
function writeRepeated(path: string, times: number): void {
  const lines = mappingLines();
  const descriptor = openSync(path, "w");
  writeSync(descriptor, "cpus=2\n");
  for (let time = 0; time < times; time++) {
    // The recording takes 2.2 seconds.
    const later = (_: string, seconds: string) => ` ${Number(seconds) + 3 * time}.`;
    const shifted = lines.map((line) => line.replace(/ (\d+)\.(?=\d{6}: )/, later));
    writeSync(descriptor, `${shifted.join("\n")}\n`);
  }
  closeSync(descriptor);
}

describe("iommukit replay", () => {
  it("takes less than 400 MB for the largest bundled capture, all modes", () => {
    const sizeBytes = (name: string): number => statSync(fixture(name)).size;
    const [largest] = readdirSync(join(root, "fixtures"))
      .filter((name) => name.endsWith(".dat"))
      .sort((one, other) => sizeBytes(other) - sizeBytes(one));
    const { maxRssKb, maps } = measure(fixture(largest), "passthrough,strict,lazy");
    // The largest is no trifle, whichever it is.
    expect(maps).toBeGreaterThan(10_000);
    expect(maxRssKb).toBeLessThan(MEMORY_MAX_KB);
  });

  it(
    "takes less than 400 MB, and time by the length, for ten times the largest capture",
    () => {
      // The most maps in a bundled capture are the 40,272 of smmu-nic-strict.
      const [once, long] = [1, TIMES].map((times) => {
        const path = join(folder, `${times}.txt`);
        writeRepeated(path, times);
        return measure(path, "lazy");
      });
      expect([once.maps, long.maps]).toEqual([14_000, TIMES * 14_000]);
      expect(long.maps).toBeGreaterThan(10 * 40_272);
      expect(long.maxRssKb).toBeLessThan(MEMORY_MAX_KB);
      // CPU time, as others use the machine too; half as much again for the noise of that.
      expect(long.userSeconds).toBeLessThan(1.5 * TIMES * once.userSeconds);
    },
    2 * TIMEOUT_MS,
  );
});
