/**
 * `iommukit bench`: the kernel's dma_map_benchmark on a virtual machine, with the flags, the
 * complaints and the output of its tool. Standard output is the tool's three lines and nothing
 * else; what else there is to say goes to standard error.
 */

import { type Command, Option } from "commander";
import type { SyncCompletion } from "#drivers/smmuv3";
import type { Profile } from "#platform";
import {
  benchmarkText,
  complaintOf,
  DEFAULT_PARAMETERS,
  IovaAgeError,
  MapBenchmark,
  MapBenchmarkError,
  type MapBenchmarkOptions,
  type MapBenchmarkOutcome,
  MODES,
  type Mode,
  nodesOf,
} from "#workloads";
import { parseCount } from "./count.js";
import { UsageError } from "./errors.js";
import { type Interruption, watchInterrupt } from "./interruption.js";
import { addIovaOptions, type IovaFlags, iovaOptionsOf } from "./iova-options.js";
import { QUEUES } from "./option-values.js";
import { profileOption } from "./profile-option.js";
import { createProgress, type Progress } from "./progress.js";
import { Slices } from "./slices.js";

interface BenchFlags extends IovaFlags {
  readonly t: number;
  readonly s: number;
  readonly n: number;
  readonly b: number;
  readonly d: number;
  readonly x: number;
  readonly g: number;
  readonly m: number;
  readonly mode: Mode;
  readonly profile: Profile;
  readonly queue?: string;
  readonly sync?: SyncCompletion;
  readonly seed: number;
  readonly full?: true;
  readonly json?: true;
}

const SEED_MAX = 2 ** 32 - 1;
const BAR_STEPS = 1000;
const AGEING = "ageing the addresses";
const AVERAGING = "until the averages are known";

export function defineBench(command: Command): void {
  const defaults = DEFAULT_PARAMETERS;
  command
    .option("-t <threads>", "threads, 1-1024", atoi, defaults.threads)
    .option("-s <seconds>", "seconds, 1-300", atoi, defaults.seconds)
    .option("-n <node>", "NUMA node of the threads, -1: any", atoi, defaults.node)
    .option("-b <bits>", "bits of the device's DMA mask, 20-64", atoi, defaults.dmaBits)
    .option("-d <direction>", "0 both, 1 to, 2 from the device", atoi, defaults.direction)
    .option("-x <ns>", "simulated transfer, 0-10000000 ns", atoi, defaults.transferNs)
    .option("-g <granule>", "pages of the buffer, 1-1024", atoi, defaults.granule)
    .option("-m <mode>", "0 single mapping, 1 scatter-gather list", atoi, defaults.mapMode)
    .addOption(new Option("--mode <mode>", "mode").choices(MODES).default("strict"))
    .addOption(new Option("--iommu <kind>", "the IOMMU").choices(["smmuv3"]).default("smmuv3"))
    .addOption(profileOption())
    .addOption(
      new Option("--queue <kind>", "how the command queue is shared (default: lockless)").choices(
        Object.keys(QUEUES),
      ),
    )
    .addOption(
      new Option("--sync <how>", "how CPUs wait for a CMD_SYNC (default: the profile's)").choices([
        "msi",
        "poll",
      ]),
    );
  addIovaOptions(command)
    .option("--seed <n>", "seed of the virtual machine", (v) => parseCount(v, 0, SEED_MAX), 1)
    .option("--full", "simulate all of the seconds, even when the averages are known")
    .option("--json", "print JSON: the averages as they are, and how well they are known")
    .action(async (flags: BenchFlags) => {
      await benchCommand(flags);
    });
}

async function benchCommand(flags: BenchFlags): Promise<void> {
  const parameters = {
    threads: flags.t,
    seconds: flags.s,
    node: flags.n,
    dmaBits: flags.b,
    direction: flags.d,
    transferNs: flags.x,
    granule: flags.g,
    mapMode: flags.m,
  };
  const complaint = complaintOf(parameters, nodesOf(flags.profile));
  if (complaint !== undefined) throw new UsageError(complaint);
  const interruption = watchInterrupt();
  const progress = createProgress();
  try {
    const outcome = await runBenchmark(
      {
        parameters,
        mode: flags.mode,
        profile: flags.profile,
        seed: flags.seed,
        ...iovaOptionsOf(flags, parameters.granule),
        full: flags.full === true,
        ...(flags.queue === undefined ? {} : { commandQueue: QUEUES[flags.queue] }),
        ...(flags.sync === undefined ? {} : { syncCompletion: flags.sync }),
      },
      progress,
      interruption,
    );
    progress.stop();
    if (flags.json === true) process.stdout.write(jsonText(parameters, flags, outcome));
    else {
      process.stdout.write(benchmarkText(parameters, outcome));
      process.stderr.write(remark(flags, outcome));
    }
  } catch (error) {
    const isAsked = error instanceof MapBenchmarkError || error instanceof IovaAgeError;
    if (isAsked) throw new UsageError(error.message);
    throw error;
  } finally {
    progress.stop();
    interruption.stop();
  }
}

async function runBenchmark(
  options: MapBenchmarkOptions,
  progress: Progress,
  interruption: Interruption,
): Promise<MapBenchmarkOutcome> {
  const benchmark = new MapBenchmark(options);
  let done = 0;
  let isAgeing = benchmark.isAgeing;
  progress.begin(isAgeing ? AGEING : AVERAGING, BAR_STEPS);
  const slices = new Slices();
  while (!slices.run((turns) => benchmark.runSome(turns))) {
    if (isAgeing && !benchmark.isAgeing) {
      isAgeing = false;
      done = 0;
      progress.begin(AVERAGING, BAR_STEPS);
    }
    // What is known of an average may become less: a bar does not go back.
    done = Math.max(done, Math.floor(benchmark.progress * BAR_STEPS));
    progress.update(done);
    await interruption.breathe();
  }
  return benchmark.outcome();
}

/** What the numbers are, for a reader who did not ask for all of the seconds, nor for tenths. */
function remark({ s, profile, mode }: BenchFlags, outcome: MapBenchmarkOutcome): string {
  const { loops, halfWidthsNs, simulatedNs, isWhole, mapMeanNs, unmapMeanNs } = outcome;
  const cut =
    "as in the kernel each latency is cut to tenths of a microsecond; uncut, the averages are " +
    `${shown(mapMeanNs)} ns (map) and ${shown(unmapMeanNs)} ns (unmap)\n`;
  const head = `virtual time of profile ${profile.name}, ${mode}: ${loops} loops`;
  if (isWhole) return `${head}\n${cut}`;
  const [map, unmap] = halfWidthsNs.map(shown);
  return (
    `${head} in ${(simulatedNs / 1e6).toFixed(1)} ms; the averages of ${s} s are known from ` +
    `them to +-${map} ns (map) and +-${unmap} ns (unmap); --full simulates all\n${cut}`
  );
}

function shown(ns: number): string {
  return ns.toFixed(ns < 10 ? 1 : 0);
}

/** The averages of the report have the names and units of the kernel's `struct map_benchmark`. */
function jsonText(parameters: object, flags: BenchFlags, outcome: MapBenchmarkOutcome): string {
  const { map, unmap, halfWidthsNs, ...rest } = outcome;
  const [mapHalfWidthNs, unmapHalfWidthNs] = halfWidthsNs;
  const report = {
    parameters,
    mode: flags.mode,
    profile: flags.profile.name,
    seed: flags.seed,
    age: flags.age,
    ...(flags.queue === undefined ? {} : { queue: flags.queue }),
    ...(flags.sync === undefined ? {} : { sync: flags.sync }),
    ...(flags.iovaDepot === undefined ? {} : { iovaDepot: flags.iovaDepot }),
    avg_map_100ns: map.average,
    map_stddev: map.deviation,
    avg_unmap_100ns: unmap.average,
    unmap_stddev: unmap.deviation,
    ...rest,
    mapHalfWidthNs,
    unmapHalfWidthNs,
  };
  return `${JSON.stringify(report, undefined, 2)}\n`;
}

/** As the tool reads its numbers: digits at the beginning, and 0 where there are none. */
function atoi(value: string): number {
  const digits = /^\s*[+-]?\d+/.exec(value);
  return digits === null ? 0 : Number(digits[0]);
}
