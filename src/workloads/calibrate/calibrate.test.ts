import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { kunpengD06 } from "#platform";
import {
  benchmarkText,
  DEFAULT_PARAMETERS,
  MapBenchmark,
  parseBenchmarks,
} from "../map-benchmark/index.js";
import type { Mode } from "../mode.js";
import { inverseDiagonal } from "./fit.js";
import { CalibrationError, calibrate, type MeasuredRun } from "./index.js";
import { missingRun, mistakenModes, observationsOf } from "./observations.js";
import { withFactors } from "./parameters.js";

/** A run as the tool would have printed it, of a machine that is known. */
function measured(mode: Mode, threads: number, profile = kunpengD06): MeasuredRun {
  const parameters = { ...DEFAULT_PARAMETERS, threads, seconds: 1, granule: 4 };
  // Long enough that the filling of the address caches, in lazy mode, is no large part of it.
  const simulatedNsMax = mode === "lazy" ? 40e6 : 6e6;
  const benchmark = new MapBenchmark({ mode, profile, parameters, simulatedNsMax, seed: 77 });
  while (!benchmark.runSome(1e6));
  const text = benchmarkText(parameters, benchmark.outcome());
  return { source: `${mode} ${threads}`, mode, printed: parseBenchmarks(text, "run")[0] };
}

const printed = (threads: number) =>
  parseBenchmarks(
    `dma mapping benchmark: threads:${threads} seconds:20\n` +
      "average map latency(us):0.4 standard deviation:0.2\n" +
      "average unmap latency(us):0.0 standard deviation:0.0\n",
    "run",
  )[0];
const run = (mode: Mode, threads: number): MeasuredRun => ({
  source: "run",
  mode,
  printed: printed(threads),
});

describe("calibration", () => {
  it("finds the numbers of the machine that the runs are of, within its intervals", async () => {
    // Work, CMD_SYNC and transfer of a machine that differs from the base in all three.
    const truth = [1.5, 0.6, 0.75];
    const machine = withFactors(kunpengD06, truth);
    const runs = [
      measured("strict", 1, machine),
      measured("strict", 16, machine),
      measured("lazy", 1, machine),
      measured("lazy", 16, machine),
    ];
    const { parameters, residuals, factors } = await calibrate(runs, kunpengD06);
    expect(residuals).toHaveLength(8);
    // What is printed is known to 50 ns of 300 at best.
    for (const { ns, fittedNs } of residuals)
      expect(Math.abs(fittedNs / ns - 1)).toBeLessThan(0.35);
    for (const [index, { lowNs, highNs, valueNs }] of parameters.entries()) {
      const trueNs = (valueNs / factors[index]) * truth[index];
      expect(lowNs).toBeLessThan(trueNs);
      expect(highNs).toBeGreaterThan(trueNs);
      // Latencies are printed in steps of 100 ns; far better than the base's is what counts.
      expect(Math.abs(Math.log(factors[index] / truth[index]))).toBeLessThan(0.3);
    }
  }, 300_000);

  it("refuses runs that cannot tell, and says which run to add", async () => {
    const cases: [MeasuredRun[], RegExp][] = [
      [[], /add a strict run with -t 1/],
      [[run("strict", 16), run("lazy", 1)], /add a strict run with -t 1/],
      [[run("strict", 1), run("strict", 32)], /add a lazy run with -t 1/],
      [[run("strict", 1), run("lazy", 1)], /add a strict run with -t 32/],
    ];
    for (const [runs, says] of cases) {
      const refused = calibrate(runs, kunpengD06);
      await expect(refused).rejects.toThrow(CalibrationError);
      await expect(refused).rejects.toThrow(says);
    }
    expect(missingRun([run("strict", 1), run("strict", 16), run("lazy", 2)])).toBeUndefined();
  });

  it("sees modes that were exchanged, where no contention explains it", async () => {
    const taking = (mode: Mode, unmapUs: number, changes: object = {}): MeasuredRun => {
      const { printed: alike, ...rest } = run(mode, 1);
      return { ...rest, printed: { ...alike, unmapUs, ...changes } };
    };
    const exchanged = [taking("strict", 0.2), taking("lazy", 1.9), run("lazy", 32)];
    await expect(calibrate(exchanged, kunpengD06)).rejects.toThrow(
      /\(lazy\) takes 1.9 us for an unmap .*\(strict\) only 0.2 us: .*exchange lazy= and strict=/,
    );
    expect(mistakenModes([taking("strict", 0.2), taking("passthrough", 0.4)])).toBeDefined();
    for (const fine of [
      [taking("strict", 1.9), taking("lazy", 0.2), taking("passthrough", 0)],
      // The tool cuts off up to a tenth of each.
      [taking("strict", 0.3), taking("lazy", 0.4)],
      [taking("strict", 1.9), taking("lazy", 9.9, { threads: 32 })],
      [taking("strict", 1.9), taking("lazy", 9.9, { granule: 64 })],
    ]) {
      expect(mistakenModes(fine)).toBeUndefined();
    }
  });

  it("takes what was printed as 0.0 for nothing, and adds what the tool cut off", () => {
    const [only, ...others] = observationsOf([run("strict", 1)]);
    expect(others).toEqual([]);
    expect(only).toMatchObject({ run: 0, kind: "map", ns: 500 });
  });
});

describe("the inverse of a small matrix", () => {
  it("times the matrix is the identity, as its diagonal shows", () => {
    // A product of a matrix with its transpose, and more on the diagonal, has an inverse.
    const entry = fc.integer({ min: -9, max: 9 });
    fc.assert(
      fc.property(fc.array(entry, { minLength: 4, maxLength: 4 }), ([a, b, c, d]) => {
        const matrix = [
          [a * a + b * b + 1, a * c + b * d],
          [a * c + b * d, c * c + d * d + 1],
        ];
        const determinant = matrix[0][0] * matrix[1][1] - matrix[0][1] ** 2;
        const [first, second] = inverseDiagonal(matrix);
        expect(first).toBeCloseTo(matrix[1][1] / determinant, 9);
        expect(second).toBeCloseTo(matrix[0][0] / determinant, 9);
      }),
    );
    const singular = [
      [1, 2],
      [2, 4],
    ];
    expect(inverseDiagonal(singular)).toEqual([Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY]);
  });
});
