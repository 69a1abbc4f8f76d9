/**
 * The command line. Exit codes: 0 done, 1 the work found a problem, 2 usage or input error,
 * 130 stopped by Ctrl-C. Errors are one line on standard error, never a stack trace.
 */

import { createRequire } from "node:module";
import { Command, CommanderError } from "commander";
import { InputError } from "#analysis";
import { CaptureError } from "#capture";
import { addBenchCommand } from "./bench-command.js";
import { addCalibrateCommand } from "./calibrate-command.js";
import { addCheckCommand } from "./check-command.js";
import { addDoctorCommand } from "./doctor.js";
import { InterruptedError, UsageError } from "./errors.js";
import { addExplainCommand } from "./explain-command.js";
import { printable } from "./printable.js";
import { addReplayCommand } from "./replay-command.js";
import { addSimulateCommand } from "./simulate-command.js";
import { addWalkCommand } from "./walk-command.js";

const HELP = "`iommukit --help` lists the commands, `iommukit COMMAND --help` their options";

const EXIT_USAGE = 2;
const EXIT_INTERRUPTED = 130;

/** Runs `iommukit` with the process's arguments and sets the process's exit code. */
export async function runCommandLine(argv: readonly string[]): Promise<void> {
  // A reader that went away (`| head`) is no error: there is nobody left to tell.
  process.stdout.on("error", (error: NodeJS.ErrnoException) => {
    if (error.code === "EPIPE") process.exit(0);
    say(`standard output: writing failed (${error.code ?? error.message}); write it elsewhere`);
    process.exit(EXIT_USAGE);
  });
  process.exitCode = await run(argv);
}

async function run(argv: readonly string[]): Promise<number> {
  let exitCode = 0;
  const program = createProgram((code) => {
    exitCode = code;
  });
  try {
    if (argv.length <= 2) throw new UsageError(`no command given; ${HELP}`);
    await program.parseAsync(argv);
    return exitCode;
  } catch (error) {
    return report(error);
  }
}

function createProgram(setExitCode: (code: number) => void): Command {
  const { version } = createRequire(import.meta.url)("../../package.json") as { version: string };
  const program = new Command("iommukit")
    .description("DMA mapping and IOMMUs: replay, time and explore what a machine does")
    .version(version)
    .exitOverride()
    // Said by `report`, in one line.
    .configureOutput({ outputError: () => {}, writeErr: () => {} });
  addReplayCommand(program, setExitCode);
  addBenchCommand(program);
  addCalibrateCommand(program);
  addSimulateCommand(program);
  addExplainCommand(program, setExitCode);
  addWalkCommand(program, setExitCode);
  addCheckCommand(program, setExitCode);
  addDoctorCommand(program);
  return program;
}

/** Says what went wrong in one line and returns the exit code for it. */
function report(error: unknown): number {
  if (error instanceof CommanderError) {
    if (error.exitCode === 0) return 0;
    // `help nonsense` and `simulate` have no other message than the usage, which is many lines.
    const isUsage = error.code === "commander.help";
    const said = isUsage ? "the command is missing or unknown" : error.message;
    const what = said.replace(/^error: /, "").replace(/\s*\n\s*/g, " ");
    // What is wrong with an argument says already what would be right.
    const isAnswered = error.code === "commander.invalidArgument";
    say(isAnswered ? what : `${what.replace(/\.$/, "")}; ${HELP}`);
    return EXIT_USAGE;
  }
  if (error instanceof InterruptedError) return EXIT_INTERRUPTED;
  if (error instanceof CaptureError && error.code === "ABORTED") return EXIT_INTERRUPTED;
  if (error instanceof UsageError || error instanceof InputError || error instanceof CaptureError) {
    say(error.message);
    return EXIT_USAGE;
  }
  if (error instanceof Error) {
    say(`internal error: ${error.message}; please report it`);
    if (process.env["IOMMUKIT_DEBUG"] !== undefined) console.error(error.stack);
    return EXIT_USAGE;
  }
  throw error;
}

function say(message: string): void {
  process.stderr.write(`iommukit: ${printable(message)}\n`);
}
