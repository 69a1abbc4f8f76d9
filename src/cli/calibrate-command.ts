/**
 * `iommukit calibrate MODE=FILE…`: fits a profile to outputs of the kernel's dma_map_benchmark
 * on a real machine, shows how well it fits, and writes it.
 */

import { readFileSync, statSync } from "node:fs";
import { Worker } from "node:worker_threads";
import Table from "cli-table3";
import { type Command, InvalidArgumentError } from "commander";
import { extendProfile, type Profile, ProfileError, parseProfile } from "#platform";
import {
  BenchmarkTextError,
  type Calibration,
  changesOf,
  type MeasuredRun,
  MODES,
  type Mode,
  parseBenchmarks,
} from "#workloads";
import type { CalibrationTask, FromCalibration } from "./calibrate-worker.js";
import { InterruptedError, UsageError } from "./errors.js";
import { watchInterrupt } from "./interruption.js";
import { profileOption } from "./profile-option.js";
import { createProgress } from "./progress.js";
import { WholeFile } from "./whole-file.js";

interface CalibrateFlags {
  readonly profile: Profile;
  readonly out: string;
  readonly name: string;
}

/** Outputs of some runs are a few kilobytes. */
const FILE_BYTES_MAX = 2 ** 20;
const RUNS_MAX = 64;

export function defineCalibrate(command: Command): void {
  command
    .argument(
      "<mode=file...>",
      "outputs of runs, each with its mode: strict=a.txt lazy=b.txt; a file may have several runs",
    )
    .addOption(profileOption("kunpeng-d06"))
    .option("--out <file>", "where the profile goes", "calibrated.json")
    .option("--name <name>", "what the profile is to be called", parseName, "calibrated")
    .action(async (files: readonly string[], flags: CalibrateFlags) => {
      await calibrateCommand(files, flags);
    });
}

async function calibrateCommand(files: readonly string[], flags: CalibrateFlags): Promise<void> {
  const runs = files.flatMap(readRuns);
  if (runs.length > RUNS_MAX) {
    throw new UsageError(`${runs.length} runs are too many; give up to ${RUNS_MAX}`);
  }
  const interruption = watchInterrupt();
  try {
    await calibrateRuns(runs, flags, interruption.signal);
  } finally {
    interruption.stop();
  }
}

async function calibrateRuns(
  runs: readonly MeasuredRun[],
  flags: CalibrateFlags,
  signal: AbortSignal,
): Promise<void> {
  // What cannot be written is told before the work.
  const out = new WholeFile("--out", flags.out);
  try {
    const calibration = await calibrated({ runs, base: flags.profile }, signal);
    writeProfile(profileOf(calibration, runs, flags), flags.out, out);
    process.stdout.write(report(calibration, runs, flags));
  } finally {
    out.discard();
  }
}

/** Fits in a thread of its own: the optimiser does not look up. */
async function calibrated(task: CalibrationTask, signal: AbortSignal): Promise<Calibration> {
  const progress = createProgress();
  progress.beginCount("simulating the runs: trials");
  const worker = new Worker(new URL("./calibrate-worker.js", import.meta.url), {
    workerData: task,
  });
  try {
    return await new Promise((resolve, reject) => {
      signal.addEventListener("abort", () => {
        reject(new InterruptedError("stopped; no profile was written"));
      });
      worker.on("error", reject);
      worker.on("message", (message: FromCalibration) => {
        if (message.kind === "trials") progress.update(message.trials);
        else if (message.kind === "result") resolve(message.calibration);
        else reject(new UsageError(message.message));
      });
    });
  } finally {
    progress.stop();
    await worker.terminate();
  }
}

function readRuns(argument: string): MeasuredRun[] {
  const at = argument.indexOf("=");
  const mode = argument.slice(0, Math.max(at, 0));
  const file = argument.slice(at + 1);
  if (file === "") throw new UsageError(`"${argument}": name a file, as in strict=output.txt`);
  if (!MODES.includes(mode as Mode)) {
    throw new UsageError(`${argument}: say in which mode it was recorded, as in strict=${file}`);
  }
  try {
    return parseBenchmarks(readText(file), file).map((printed, index) => ({
      source: `${file}#${index + 1}`,
      mode: mode as Mode,
      printed,
    }));
  } catch (error) {
    if (error instanceof BenchmarkTextError) throw new UsageError(error.message);
    throw error;
  }
}

function readText(file: string): string {
  try {
    const status = statSync(file);
    if (!status.isFile() || status.size > FILE_BYTES_MAX) {
      const what = status.isFile() ? `has ${status.size} bytes` : "is no regular file";
      throw new UsageError(`${file} ${what}: no output of dma_map_benchmark; name another file`);
    }
    return readFileSync(file, "utf8");
  } catch (error) {
    if (error instanceof UsageError) throw error;
    const why = (error as NodeJS.ErrnoException).code ?? String(error);
    throw new UsageError(`${file}: cannot be read (${why}); name another file`);
  }
}

/** All numbers, so that it stays what it is when the bundled ones change. */
function profileOf(
  { factors }: Calibration,
  runs: readonly MeasuredRun[],
  { profile, name }: CalibrateFlags,
): Profile {
  const modes = [...new Set(runs.map(({ mode }) => mode))].join(" and ");
  return extendProfile(
    profile,
    changesOf(profile, factors, {
      name,
      description: `${profile.name}, calibrated to ${runs.length} runs of dma_map_benchmark`,
      runs: `${runs.length} runs of dma_map_benchmark, ${modes}`,
    }),
  );
}

function writeProfile(profile: Profile, file: string, out: WholeFile): void {
  const text = `${JSON.stringify(profile, undefined, 2)}\n`;
  try {
    // What is written has to be readable.
    parseProfile(text, file);
  } catch (error) {
    if (error instanceof ProfileError) throw new UsageError(`--out: ${error.message}`);
    throw error;
  }
  out.write(text);
  out.commit();
}

function report(
  { parameters, residuals, trials }: Calibration,
  runs: readonly MeasuredRun[],
  { profile, out, name }: CalibrateFlags,
): string {
  const found = new Table({ head: ["number", "ns", "95 % interval", "was"], style: PLAIN });
  for (const { what, valueNs, lowNs, highNs, factor } of parameters) {
    const interval = `${shown(lowNs)} to ${shown(highNs)}`;
    found.push([what, shown(valueNs), interval, shown(valueNs / factor)]);
  }
  const fit = new Table({
    head: ["run", "mode", "threads", "latency", "measured ns", "fitted ns", "off"],
    style: PLAIN,
  });
  for (const { source, run, threads, kind, ns, fittedNs } of residuals) {
    const off = `${(100 * (fittedNs / ns - 1)).toFixed(0)} %`;
    fit.push([source, runs[run].mode, threads, kind, shown(ns), shown(fittedNs), off]);
  }
  return (
    `profile ${name}: ${profile.name} with ${parameters.length} numbers fitted in ${trials} ` +
    `trials; measured latencies have what the tool cuts off added\n${found}\n${fit}\n` +
    `wrote ${out}; use it with --profile ${out}\n`
  );
}

const PLAIN = { head: [], border: [] };

function shown(ns: number): string {
  return ns.toLocaleString("en-US", { maximumFractionDigits: ns < 100 ? 1 : 0 });
}

function parseName(value: string): string {
  if (/^[a-z0-9][a-z0-9._-]{0,63}$/.test(value)) return value;
  throw new InvalidArgumentError("it is of a-z, 0-9, '.', '_' and '-', 64 at most.");
}
