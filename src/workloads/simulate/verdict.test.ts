/** What is said of modes, by their rates and how well these are known. */

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { genericArm } from "#platform";
import { createSimulation, type SimulationResult, verdictOf } from "./index.js";

/** All that a verdict looks at, of a run whose media are the limit. */
const BASE = {
  mode: "passthrough",
  cpus: 4,
  perSecond: 1e6,
  perSecondHalfWidth: 1000,
  cpuNsPerRequest: 2000,
  bottleneck: { kind: "media", text: "the media" },
} as const;

function runOf(changes: Partial<SimulationResult>): SimulationResult {
  return { ...BASE, ...changes } as SimulationResult;
}

const COMMAND_QUEUE = { kind: "command-queue", text: "the command queue" } as const;

describe("the verdict", () => {
  it("says that something else limits when the modes are alike, and what strict costs then", () => {
    const strict = runOf({ mode: "strict", perSecond: 0.985e6, cpuNsPerRequest: 6000 });
    const lazy = runOf({ mode: "lazy", perSecond: 0.9999e6 });
    expect(verdictOf([runOf({}), strict, lazy])).toBe(
      "all modes give the same number (strict 1.5 ±0.1 % below passthrough, " +
        "lazy as passthrough ±0.1 %): what limits is the media; " +
        "strict takes 3.0 times the CPU time of passthrough",
    );
  });

  it("says what a mode loses, how surely, and to what", () => {
    const strict = runOf({
      mode: "strict",
      perSecond: 0.25e6,
      perSecondHalfWidth: 20_000,
      bottleneck: COMMAND_QUEUE,
    });
    const lazy = runOf({ mode: "lazy", perSecond: 0.99e6 });
    expect(verdictOf([runOf({}), strict, lazy])).toBe(
      "strict loses 75 ±2 % against passthrough: the command queue",
    );
    expect(verdictOf([strict])).toBeUndefined();
  });

  it("says that it cannot tell", () => {
    const strict = runOf({ mode: "strict", perSecond: 1.1e6, perSecondHalfWidth: 200_000 });
    expect(verdictOf([runOf({}), strict])).toBe(
      "the runs are too short to tell (strict 10 ±20 % above passthrough); take a longer --runtime",
    );
    const lazy = runOf({ mode: "lazy", perSecond: 0.5e6, bottleneck: COMMAND_QUEUE });
    expect(verdictOf([runOf({}), strict, lazy])).toBe(
      "lazy loses 50.0 ±0.1 % against passthrough: the command queue; " +
        "the runs are too short to tell (strict 10 ±20 % above passthrough); take a longer --runtime",
    );
    const none = runOf({ perSecond: 0 });
    expect(verdictOf([none, strict])).toMatch(/^nothing completed in passthrough; take a longer/);
  });

  it("never claims what the interval leaves open, whatever the numbers", () => {
    const rate = fc.double({ min: 1, max: 1e7, noNaN: true });
    const part = fc.double({ min: 1e-5, max: 1, noNaN: true });
    fc.assert(
      fc.property(rate, rate, part, part, (perSecond, other, known, knownOther) => {
        const base = runOf({ perSecond, perSecondHalfWidth: known * perSecond });
        const perSecondHalfWidth = knownOther * other;
        const strict = runOf({ mode: "strict", perSecond: other, perSecondHalfWidth });
        const said = verdictOf([base, strict]) ?? "";
        const most = (1 + knownOther) * other;
        const least = (1 - knownOther) * other;
        if (said.includes("strict loses")) expect(least).toBeLessThan(perSecond);
        if (said.includes("strict gains")) expect(most).toBeGreaterThan(perSecond);
        if (said.startsWith("all modes")) {
          expect(Math.abs(other / perSecond - 1)).toBeLessThan(0.05);
          expect(knownOther * (other / perSecond)).toBeLessThan(0.05);
        }
      }),
    );
  });

  it("says the same of rates that differ by less than is known of them", () => {
    // What a generic Arm server with 4 CPUs gives with three seeds, in 20 ms and in 50.
    const runs = [
      [0.049, 0.01],
      [0.041, 0.006],
      [0.05, 0.02],
      [0.045, 0.009],
      [0.04, 0.01],
      [0.045, 0.007],
    ];
    for (const [lost, known] of runs) {
      const perSecond = (1 - lost) * 1e6;
      const strict = runOf({ mode: "strict", perSecond, perSecondHalfWidth: known * 1e6 });
      expect(verdictOf([runOf({}), strict])).toMatch(
        /^strict loses [45](\.\d)? ±[\d.]+ % against passthrough, and the same limits both: the media$/,
      );
    }
  });
});

it("a short run of a load that goes up and down does not say that strict is faster", () => {
  // Strict mode's completions pile up behind the CPUs and come in waves of some milliseconds: in
  // 3 ms this run of it completes a fifth more than the media ever can.
  const simulation = createSimulation({
    kind: "nvme",
    mode: "strict",
    cpus: 16,
    profile: genericArm,
    seed: 2,
    devices: 1,
    smmus: 1,
    sync: "msi",
    rampNs: 5e6,
    runtimeNs: 3e6,
    why: false,
    rw: "randread",
    blockBytes: 4096,
    iodepth: 256,
    numjobs: 16,
  });
  while (!simulation.runSome(100_000));
  const strict = simulation.result();
  const { channels, readMediaNs } = genericArm.nvme;
  const mediaPerSecond = (channels.value * 1e9) / readMediaNs.value;
  expect(strict.perSecond).toBeGreaterThan(1.15 * mediaPerSecond);
  const passthrough = runOf({ perSecond: mediaPerSecond });
  expect(verdictOf([passthrough, strict])).toMatch(/^the runs are too short to tell/);
});
