/** `iommukit replay CAPTURE`: the main job. Options in, a comparison of the modes out. */

import { type Command, InvalidArgumentError, Option } from "commander";
import { openCapture } from "#capture";
import type { Profile } from "#platform";
import { type IovaSource, MODES, type Mode, type Pace } from "#workloads";
import { CommandsFile } from "./commands-file.js";
import { parseCount } from "./count.js";
import { UsageError } from "./errors.js";
import { type Interruption, watchInterrupt } from "./interruption.js";
import { parseModes } from "./option-values.js";
import { profileOption } from "./profile-option.js";
import { createProgress } from "./progress.js";
import { CPUS_MAX, type ReplayPlan, runReplay } from "./replay-job.js";
import { jsonReport } from "./report-json.js";
import { textReport } from "./report-text.js";

interface ReplayFlags {
  readonly mode: readonly Mode[];
  readonly iommu: "smmuv3";
  readonly profile: Profile;
  readonly cpus?: number;
  readonly pace: Pace;
  readonly iova: IovaSource;
  readonly json?: true;
  readonly commands?: string;
  readonly seed: number;
}

/** The generator of the machine's random numbers starts from 32 bits. */
const SEED_MAX = 2 ** 32 - 1;

export function defineReplay(command: Command, setExitCode: (code: number) => void): void {
  command
    .argument(
      "<capture>",
      "trace.dat, ftrace or perf script text, .gz or .zst; - for stdin",
      parseFileName,
    )
    .addOption(
      new Option("--mode <list>", `modes, separated by commas: ${MODES.join(", ")}`)
        .default(MODES, MODES.join(","))
        .argParser(parseModes),
    )
    .addOption(new Option("--iommu <kind>", "the IOMMU").choices(["smmuv3"]).default("smmuv3"))
    .addOption(profileOption())
    .option("--cpus <n>", "spread the capture over so many CPUs (default: as captured)", parseCpus)
    .addOption(
      new Option("--pace <pace>", "closed: as fast as the stack allows; captured: in its own time")
        .choices(["captured", "closed"])
        .default("closed"),
    )
    .addOption(
      new Option("--iova <source>", "addresses: of our allocator, or those in the capture")
        .choices(["allocated", "captured"])
        .default("allocated"),
    )
    .option("--seed <n>", "seed of the virtual machine", parseSeed, 1)
    .option("--json", "print JSON instead of a table")
    .option(
      "--commands <file>",
      "write the commands that the SMMU consumed (one mode only)",
      parseFileName,
    )
    .action(async (capture: string, flags: ReplayFlags) => {
      setExitCode(await replayCommand(capture, flags));
    });
}

async function replayCommand(file: string, flags: ReplayFlags): Promise<number> {
  if (flags.commands !== undefined && flags.mode.length !== 1) {
    throw new UsageError(
      `--commands writes the commands of one mode, but --mode has ${flags.mode.length}; ` +
        "add --mode strict or another",
    );
  }
  const interruption = watchInterrupt();
  try {
    return await replayFile(file, flags, interruption);
  } finally {
    interruption.stop();
  }
}

async function replayFile(
  file: string,
  flags: ReplayFlags,
  interruption: Interruption,
): Promise<number> {
  const capture = await openCapture(file, { signal: interruption.signal });
  const commands =
    flags.commands === undefined ? undefined : new CommandsFile(flags.commands, file);
  const progress = createProgress();
  try {
    const plan: ReplayPlan = {
      modes: flags.mode,
      profile: flags.profile,
      pace: flags.pace,
      iovas: flags.iova,
      seed: flags.seed,
      ...(flags.cpus === undefined ? {} : { cpus: flags.cpus }),
      ...(commands === undefined ? {} : { onCommand: commands.listener }),
    };
    const outcome = await runReplay(capture, plan, progress, interruption);
    progress.stop();
    commands?.commit();
    const report = flags.json === true ? jsonReport(outcome) : textReport(outcome);
    process.stdout.write(report);
    return outcome.findings.some(({ isProblem }) => isProblem) ? 1 : 0;
  } finally {
    progress.stop();
    commands?.discard();
    capture.close();
  }
}

function parseFileName(value: string): string {
  if (value === "") throw new InvalidArgumentError("it is the name of a file.");
  return value;
}

const parseCpus = (value: string): number => parseCount(value, 1, CPUS_MAX);
const parseSeed = (value: string): number => parseCount(value, 0, SEED_MAX);
