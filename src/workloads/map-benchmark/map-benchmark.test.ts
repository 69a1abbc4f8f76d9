import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { kunpengD06 } from "#platform";
import {
  BenchmarkTextError,
  benchmarkText,
  complaintOf,
  DEFAULT_PARAMETERS,
  DIRECTION_NAMES,
  MapBenchmark,
  type MapBenchmarkOptions,
  nodesOf,
  parseBenchmarks,
} from "./index.js";
import { integerRoot, LatencySums } from "./statistics.js";
import { SteadyState } from "./steady-state.js";

const NODES = 2;

describe("parameters", () => {
  it("are the tool's by default, and accepted", () => {
    expect(complaintOf(DEFAULT_PARAMETERS, NODES)).toBeUndefined();
    expect(DEFAULT_PARAMETERS).toMatchObject({ threads: 1, seconds: 20, node: -1, dmaBits: 32 });
  });

  // In the order in which the tool looks: each is found before all that come after it.
  const wrong = [
    [{ mapMode: 2 }, "invalid map mode, SINGLE_MODE:0, SG_MODE: 1"],
    [{ threads: 1025 }, "invalid number of threads, must be in 1-1024"],
    [{ seconds: 0 }, "invalid number of seconds, must be in 1-300"],
    [{ transferNs: 10_000_001 }, "invalid transmit delay, must be in 0-10000000"],
    [{ dmaBits: 19 }, "invalid dma mask bit, must be in 20-64"],
    [{ direction: 3 }, "invalid dma direction"],
    [{ granule: 0 }, "invalid granule size"],
    [{ node: NODES }, "invalid numa node"],
  ] as const;
  it.each(wrong.map(([change, says], index) => [says, change, index] as const))(
    "%s",
    (says, _, index) => {
      const all = Object.assign({}, ...wrong.slice(index).map(([change]) => change));
      expect(complaintOf({ ...DEFAULT_PARAMETERS, ...all }, NODES)).toBe(says);
    },
  );
});

describe("statistics", () => {
  it("are the kernel's integers, however long the run", () => {
    // Up to 10 s each: sums of squares leave what a number holds exactly.
    const durations = fc.array(fc.integer({ min: 0, max: 1e10 }), { minLength: 1, maxLength: 50 });
    fc.assert(
      fc.property(durations, (ns) => {
        const sums = new LatencySums();
        for (const duration of ns) sums.add(duration);
        const units = ns.map((duration) => BigInt(duration) / 100n);
        const count = BigInt(ns.length);
        const average = units.reduce((sum, unit) => sum + unit, 0n) / count;
        const squares = units.reduce((sum, unit) => sum + unit * unit, 0n) / count;
        const variance = squares - average * average;
        const { average: found, deviation } = sums.summary();
        expect(BigInt(found)).toBe(average);
        const root = BigInt(deviation);
        expect(root * root <= variance && (root + 1n) * (root + 1n) > variance).toBe(true);
      }),
    );
  });

  it("are zero without a loop", () => {
    expect(new LatencySums().summary()).toEqual({ average: 0, deviation: 0 });
  });

  it("take the root down, also where a double rounds up", () => {
    // The double of 2^104 - 1 is 2^104, whose root is one too many.
    expect(integerRoot(2n ** 104n - 1n)).toBe(2 ** 52 - 1);
    expect(integerRoot(2n ** 104n)).toBe(2 ** 52);
  });
});

describe("the steady state", () => {
  it("gives an interval that has the mean in it about 19 times of 20", () => {
    let covered = 0;
    const runs = 200;
    // A generator of its own (Park and Miller's): no library decides what comes out here.
    let state = 1;
    const random = (): number => {
      state = (state * 48_271) % 2_147_483_647;
      return state / 2_147_483_647;
    };
    for (let run = 0; run < runs; run++) {
      const steady = new SteadyState();
      let sum = 0;
      let count = 0;
      for (let unit = 0; unit < 100; unit++) {
        for (let n = 0; n < 20; n++) {
          const value = random();
          steady.add(value, 0);
          sum += value;
          count++;
        }
        steady.endUnit();
      }
      if (Math.abs(sum / count - 0.5) <= steady.halfWidths()[0]) covered++;
      expect(steady.halfWidths()[1]).toBe(0);
    }
    // Expected 190; a binomial spread of 200 trials is 3.
    expect(covered).toBeGreaterThan(175);
    expect(covered).toBeLessThan(200);
  });

  it("knows nothing of empty windows", () => {
    const steady = new SteadyState();
    for (let unit = 0; unit < 60; unit++) steady.endUnit();
    expect(steady.halfWidths()).toEqual([Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY]);
  });
});

const parameters = fc.record({
  threads: fc.integer({ min: 1, max: 1024 }),
  seconds: fc.integer({ min: 1, max: 300 }),
  node: fc.integer({ min: -1, max: 63 }),
  dmaBits: fc.constant(32),
  direction: fc.integer({ min: 0, max: 2 }),
  transferNs: fc.constant(0),
  granule: fc.integer({ min: 1, max: 1024 }),
  mapMode: fc.integer({ min: 0, max: 1 }),
});
const summary = fc.record({
  average: fc.integer({ min: 0, max: 1e9 }),
  deviation: fc.integer({ min: 0, max: 1e9 }),
});

describe("the tool's output", () => {
  it("has three lines in the newest form", () => {
    const result = { map: { average: 3, deviation: 11 }, unmap: { average: 20, deviation: 0 } };
    expect(benchmarkText({ ...DEFAULT_PARAMETERS, threads: 8, seconds: 2 }, result)).toBe(
      "dma mapping benchmark(SINGLE_MODE): threads:8 seconds:2 node:-1 dir:BIDIRECTIONAL granule:1\n" +
        "average map latency(us):0.3 standard deviation:1.1\n" +
        "average unmap latency(us):2.0 standard deviation:0.0\n",
    );
  });

  it("is read back, whatever it says, among other lines", () => {
    fc.assert(
      fc.property(parameters, summary, summary, (given, map, unmap) => {
        const text = `$ dma_map_benchmark\n${benchmarkText(given, { map, unmap })}\n# done\n`;
        const [read, ...others] = parseBenchmarks(text, "out.txt");
        expect(others).toEqual([]);
        expect(read).toEqual({
          mapMode: given.mapMode === 0 ? "SINGLE_MODE" : "SG_MODE",
          threads: given.threads,
          seconds: given.seconds,
          node: given.node,
          direction: DIRECTION_NAMES[given.direction],
          granule: given.granule,
          mapUs: map.average / 10,
          mapDeviationUs: map.deviation / 10,
          unmapUs: unmap.average / 10,
          unmapDeviationUs: unmap.deviation / 10,
        });
      }),
    );
  });

  const latencies =
    "average map latency(us):1.1 standard deviation:1.9\n" +
    "average unmap latency(us):0.5 standard deviation:0.8\n";
  it("is read in its older forms", () => {
    const first = parseBenchmarks(
      `dma mapping benchmark: threads:16 seconds:20\n${latencies}`,
      "a",
    );
    expect(first).toMatchObject([
      { threads: 16, seconds: 20, granule: 1, mapUs: 1.1, unmapUs: 0.5 },
    ]);
    expect(first[0].node).toBeUndefined();
    const head = "dma mapping benchmark: threads:4 seconds:10 node:1 dir:TO_DEVICE";
    const second = parseBenchmarks(`${head} granule: 8\n${latencies}${head}\n${latencies}`, "a");
    expect(second).toMatchObject([
      { threads: 4, node: 1, direction: "TO_DEVICE", granule: 8 },
      { threads: 4, node: 1, granule: 1 },
    ]);
  });

  const head = "dma mapping benchmark: threads:1 seconds:20";
  const [mapLine, unmapLine] = latencies.split("\n");
  const damaged = [
    ["nothing of it", "hello\n", /no output of dma_map_benchmark/],
    ["a first line only", `${head}\n`, /out\.txt:2: .*incomplete/],
    ["two first lines", `${head}\n${head}\n${latencies}`, /out\.txt:2: .*incomplete/],
    ["latencies without a first line", latencies, /out\.txt:1: .*incomplete/],
    ["latencies the wrong way round", `${head}\n${unmapLine}\n${mapLine}\n`, /:2: .*incomplete/],
    ["another first line", `${head} node:x\n${latencies}`, /:1: it is none of the forms/],
  ] as const;
  it.each(damaged)("is refused with file and line when there is %s", (_, text, says) => {
    expect(() => parseBenchmarks(text, "out.txt")).toThrow(BenchmarkTextError);
    expect(() => parseBenchmarks(text, "out.txt")).toThrow(says);
  });
});

function run(options: Partial<MapBenchmarkOptions>, changes: object = {}) {
  const benchmark = new MapBenchmark({
    mode: "strict",
    profile: kunpengD06,
    ...options,
    parameters: { ...DEFAULT_PARAMETERS, seconds: 1, ...changes },
  });
  while (!benchmark.runSome(1e6));
  return benchmark.outcome();
}

describe("the benchmark's shapes", () => {
  it("on one CPU: passthrough next to nothing, lazy little, strict most", () => {
    const [passthrough, lazy, strict] = (["passthrough", "lazy", "strict"] as const).map(
      (mode) => run({ mode }, { transferNs: 2000 }).unmapMeanNs,
    );
    // Published: strict 0.6 to 2 us, lazy well under that.
    expect(passthrough).toBeLessThan(lazy / 2);
    expect(lazy).toBeLessThan(strict / 3);
    expect(strict).toBeGreaterThan(300);
    expect(strict).toBeLessThan(3000);
  });

  it("grow with the pages of the buffer, and not with the transfer", () => {
    const one = run({});
    const many = run({}, { granule: 64 });
    expect(many.unmapMeanNs).toBeGreaterThan(1.3 * one.unmapMeanNs);
    const slow = run({}, { transferNs: 20_000 });
    expect(slow.unmapMeanNs).toBeLessThan(1.2 * one.unmapMeanNs);
    expect(slow.loops).toBeLessThan(one.loops / 5);
  });

  it("cost more per list entry than per page of one buffer, in strict mode too", () => {
    const list = run({}, { granule: 16, mapMode: 1 });
    const buffer = run({}, { granule: 16 });
    expect(list.mapMeanNs).toBeGreaterThan(buffer.mapMeanNs);
  });

  it("give the same for the same seed, and simulate no more than the seconds", () => {
    expect(run({ seed: 5 }, { threads: 4 })).toEqual(run({ seed: 5 }, { threads: 4 }));
    const whole = run({ full: true }, { transferNs: 1e7 });
    expect(whole.isWhole).toBe(true);
    // One loop each ten milliseconds and a little, for a second.
    expect(whole.loops).toBeGreaterThan(95);
    expect(whole.loops).toBeLessThan(101);
  });

  it("keep threads on the CPUs of their node", () => {
    expect(nodesOf(kunpengD06)).toBe(4);
    const near = run({}, { node: 0, threads: 2 });
    // The SMMU reads commands of another socket's CPUs more slowly.
    const far = run({}, { node: 3, threads: 2 });
    expect(far.unmapMeanNs).toBeGreaterThan(near.unmapMeanNs);
  });
});

describe("the benchmark's progress", () => {
  it.each([
    ["when the averages are known", {}, false],
    ["when the time is up", { simulatedNsMax: 2e6 }, true],
  ])("goes from 0 to 1: it ends %s", (_, options, isWhole) => {
    const benchmark = new MapBenchmark({
      ...{ mode: "strict", profile: kunpengD06 },
      // Their averages take twice the least time to be known.
      parameters: { ...DEFAULT_PARAMETERS, threads: 64 },
      ...options,
    });
    expect(benchmark.progress).toBeLessThan(0.01);
    const seen: number[] = [];
    while (!benchmark.runSome(1000)) seen.push(benchmark.progress);
    expect(benchmark.outcome().isWhole).toBe(isWhole);
    expect(Math.min(...seen)).toBeGreaterThanOrEqual(0);
    expect(benchmark.progress).toBe(1);
    // It says something on the way.
    expect(seen.some((share) => share > 0.3 && share < 0.7)).toBe(true);
  });
});

it("ages addresses in pieces, so that whoever runs it can look up in between", () => {
  const ranges = 20_000;
  const benchmark = new MapBenchmark({
    parameters: { ...DEFAULT_PARAMETERS, seconds: 1 },
    mode: "strict",
    profile: kunpengD06,
    iovaAge: { ranges, pages: 1 },
  });
  let pieces = 0;
  let before = 0;
  for (; benchmark.isAgeing; pieces++) {
    expect(benchmark.progress).toBeGreaterThanOrEqual(before - 0.1);
    before = benchmark.progress;
    expect(benchmark.runSome(65_536)).toBe(false);
  }
  // All of them allocated and freed, some 4096 in a piece.
  expect(pieces).toBeGreaterThanOrEqual((2 * ranges) / 4096);
  while (!benchmark.runSome(65_536));
  expect(benchmark.outcome().loops).toBeGreaterThan(1000);
});
