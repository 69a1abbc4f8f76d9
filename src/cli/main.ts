/**
 * The command line. Exit codes: 0 done, 1 the work found a problem, 2 usage or input error,
 * 130 stopped by Ctrl-C. Errors are one line on standard error, never a stack trace.
 */

import { createRequire } from "node:module";
import { Command, CommanderError, Help } from "commander";
import { COMMANDS, exitCodes, namedCommand } from "./commands.js";
import { EXIT_INTERRUPTED, InterruptedError, UsageError } from "./errors.js";
import { printable } from "./printable.js";

const HELP = "`iommukit --help` lists the commands, `iommukit COMMAND --help` their options";

const EXIT_USAGE = 2;

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
  const setExitCode = (code: number): void => {
    exitCode = code;
  };
  try {
    if (argv.length <= 2) throw new UsageError(`no command given; ${HELP}`);
    const program = await createProgram(argv.slice(2), setExitCode);
    await program.parseAsync(argv);
    return exitCode;
  } catch (error) {
    return await report(error);
  }
}

/** All commands by name, and the one that the arguments name in full. */
async function createProgram(
  args: readonly string[],
  setExitCode: (code: number) => void,
): Promise<Command> {
  const { version } = createRequire(import.meta.url)("../../package.json") as { version: string };
  const program = new Command("iommukit")
    .description("DMA mapping and IOMMUs: replay, time and explore what a machine does")
    .version(version)
    .exitOverride()
    // Said by `report`, in one line.
    .configureOutput({ outputError: () => {}, writeErr: () => {} });
  const named = namedCommand(args);
  for (const entry of COMMANDS) {
    const { name, description } = entry;
    const command = program.command(name).description(description);
    if (entry === named) (await named.load())(command, setExitCode);
    // Also where its own commands are helped with.
    command.addHelpText("afterAll", exitCodes(entry));
  }
  // In the list of commands: those that are not loaded do not know it themselves.
  const takes = new Map(COMMANDS.map((entry) => [entry.name, entry.takes]));
  const subcommandTerm = (command: Command): string => {
    const taken = takes.get(command.name());
    return taken === undefined ? new Help().subcommandTerm(command) : command.name() + taken;
  };
  return program.configureHelp({ subcommandTerm });
}

/** Says what went wrong in one line and returns the exit code for it. */
async function report(error: unknown): Promise<number> {
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
  if (error instanceof InterruptedError) {
    if (error.message !== "") say(error.message);
    return EXIT_INTERRUPTED;
  }
  if (error instanceof UsageError) {
    say(error.message);
    return EXIT_USAGE;
  }
  // What threw one of theirs has loaded these rooms.
  const { CaptureError } = await import("#capture");
  const { InputError } = await import("#analysis");
  if (error instanceof CaptureError && error.code === "ABORTED") return EXIT_INTERRUPTED;
  if (error instanceof InputError || error instanceof CaptureError) {
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
