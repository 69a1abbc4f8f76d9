/** `iommukit check`: explores the interleavings of the stack's protocols. */

import { type Command, Option } from "commander";
import {
  type CheckReport,
  type Counterexample,
  type Harness,
  loadMutant,
  type Mutant,
  type Narration,
} from "#explore";
import type { MemoryModel } from "#machine";
import { errorOf, loadCounterexample, saveCounterexample } from "./check-file.js";
import {
  harnessNamed,
  mutantNamed,
  mutatedHarnesses,
  openShelf,
  type Shelf,
} from "./check-names.js";
import { tellReplay } from "./check-replay.js";
import { runCheck, type SearchFlags, WALKS } from "./check-search.js";
import { mutantLine, narrationTable, reportLine } from "./check-text.js";
import { parseCount } from "./count.js";
import { UsageError } from "./errors.js";
import { watchInterrupt } from "./interruption.js";
import { WholeFile } from "./whole-file.js";

interface CheckFlags extends SearchFlags {
  readonly memoryModel?: MemoryModel;
  readonly deep?: true;
  readonly json?: true;
  readonly list?: true;
  readonly replay?: string;
  readonly save?: string;
}

/** The room, or the one of a mutated build. */
type Explore = Pick<
  typeof import("#explore"),
  "checkLong" | "HARNESSES" | "loadHarnessModule" | "narrate"
>;

/** Errors of a search that say what to do about them. */
const TOLD: ReadonlySet<string> = new Set([
  "NondeterminismError",
  "MutantError",
  "HarnessModuleError",
]);
/** More threads than any host has cores. */
const WORKERS_MAX = 256;

/** Preemptions, a seed; executions, seconds: as many as 32 bits count. */
const parseNumber = (text: string): number => parseCount(text, 0, 2 ** 32 - 1);
const parseLimit = (text: string): number => parseCount(text, 1, 2 ** 32 - 1);

export function defineCheck(command: Command, setExitCode: (code: number) => void): void {
  command
    .argument("[harness...]", "names of harnesses (default: all); with a module's path, its own")
    .addOption(
      new Option("--memory-model <model>", "default: each that the harness is for").choices([
        "sc",
        "tso",
        "weak",
      ]),
    )
    .option("--mutant <name>", "put a named fault into the code, which must be found")
    .option("--bound <n>", "only schedules with at most so many preemptions", parseNumber)
    .option("--seed <n>", "random walks from this seed instead of a complete search", parseNumber)
    .option("--executions <n>", `stop after so many (random walks: ${WALKS})`, parseLimit)
    .option("--seconds <n>", "stop after so many seconds per harness and model", parseLimit)
    .option("--deep", "the large harnesses, too")
    .option("--workers <n>", "explore on so many threads", (text) =>
      parseCount(text, 1, WORKERS_MAX),
    )
    .option("--twice", "run every schedule twice and compare: is the harness deterministic?")
    .option("--json", "print JSON, with --list and --replay too")
    .option("--list", "list harnesses and mutants")
    .option("--replay <file>", "play a saved counterexample back")
    .option(
      "--save <file>",
      "where the first counterexample goes (default: HARNESS.counterexample.json)",
    )
    .option("--state <file>", "where a search that is cut short is kept, and taken up again")
    .addHelpText(
      "after",
      "\nA module of your own: iommukit check ./my-harness.js, which exports harnesses " +
        "(docs/concurrency/writing-a-harness.md)",
    )
    .action(async (names: string[], flags: CheckFlags) => {
      setExitCode(await checkCommand(names, flags));
    });
}

async function checkCommand(words: readonly string[], flags: CheckFlags): Promise<number> {
  try {
    const { shelf, names } = await openShelf(words);
    if (flags.list) {
      refuseCompany("list", "shows all harnesses and mutants", names, flags);
      return list(shelf, flags);
    }
    if (flags.replay !== undefined) {
      refuseCompany("replay", "takes harness, model and fault from its file", names, flags);
      return await replay(flags.replay, shelf, flags.json === true);
    }
    refuseCombinations(flags);
    return await checkAll(names, shelf, flags);
  } catch (error) {
    // By name: those of a mutated build are other classes.
    if (error instanceof Error && TOLD.has(error.name)) throw new UsageError(error.message);
    throw error;
  }
}

/** What would be ignored is refused: its caller would take the answer for one about it. */
function refuseCompany(
  own: "list" | "replay",
  why: string,
  names: readonly string[],
  flags: CheckFlags,
): void {
  const isOther = Object.keys(flags).some((flag) => flag !== own && flag !== "json");
  if (names.length === 0 && !isOther) return;
  throw new UsageError(`--${own} ${why}; give nothing but --json and a module's path with it`);
}

/** Random walks and bounds have no stack to keep, nor to split. */
function refuseCombinations({ workers, state, seed, bound, twice }: CheckFlags): void {
  if (bound !== undefined && seed !== undefined) {
    throw new UsageError("--bound is for a complete search and --seed for random walks; give one");
  }
  const isOther = seed !== undefined || bound !== undefined;
  if (workers !== undefined && (isOther || twice !== undefined)) {
    throw new UsageError("--workers goes with none of --seed, --bound and --twice");
  }
  if (state !== undefined && isOther) {
    throw new UsageError("--state is for complete searches, not for --seed or --bound");
  }
}

async function checkAll(
  names: readonly string[],
  shelf: Shelf,
  flags: CheckFlags,
): Promise<number> {
  const mutant = flags.mutant === undefined ? undefined : mutantNamed(flags.mutant, shelf);
  const { explore, harnesses } = await loadBuild(shelf, mutant);
  const mutated = harnesses.find(({ name }) => name === mutant?.harness);
  const searches = chosen(names, { ...shelf, harnesses }, mutated, flags).map((harness) => ({
    harness,
    models: modelsFor(harness, mutated && mutant, flags),
  }));
  const isOne = searches.length === 1 && searches[0].models.length === 1;
  if (flags.state !== undefined && !isOne) {
    throw new UsageError("--state is of one search; name one harness and --memory-model");
  }
  if (flags.save !== undefined) new WholeFile("--save", flags.save).discard();
  const searchFlags = { ...flags, module: shelf.url };
  const interruption = watchInterrupt();
  const reports: CheckReport[] = [];
  let { save } = flags;
  try {
    for (const { harness, models } of searches) {
      for (const model of models) {
        const report = await runCheck(explore, harness, model, searchFlags, interruption.signal);
        reports.push(report);
        if (!flags.json) console.log(reportLine(report, flags.mutant));
        if (report.counterexample === undefined) continue;
        tellCounterexample(report, report.counterexample, shelf, { ...flags, save });
        // Another harness's does not replace it.
        save = undefined;
        break;
      }
    }
  } finally {
    interruption.stop();
    // Stopped or not: what came before took its time.
    if (flags.json && reports.length > 0) {
      console.log(JSON.stringify({ mutant: flags.mutant, reports }, undefined, 2));
    }
  }
  return reports.some(({ verdict }) => verdict === "violation" || verdict === "goals missed")
    ? 1
    : 0;
}

function tellCounterexample(
  { harness, memoryModel }: CheckReport,
  { message, schedule, narration }: Counterexample,
  { path: module }: Shelf,
  { save, mutant, json }: Omit<CheckFlags, "save"> & { readonly save: string | undefined },
): void {
  if (!json) console.log(narrationTable(narration));
  const path = save ?? `${harness}.counterexample.json`;
  saveCounterexample(path, { harness, memoryModel, mutant, message, schedule });
  const from = module === undefined ? "" : ` ${module}`;
  if (!json) console.log(`saved: iommukit check${from} --replay ${path}`);
}

/** The room and the harnesses, with the mutant in them if there is one. */
async function loadBuild(
  shelf: Shelf,
  mutant: Mutant | undefined,
): Promise<{ readonly explore: Explore; readonly harnesses: readonly Harness[] }> {
  if (mutant === undefined) {
    return { explore: await import("#explore"), harnesses: shelf.harnesses };
  }
  const explore = await loadMutant(mutant);
  return { explore, harnesses: await mutatedHarnesses(shelf, explore, mutant) };
}

/** `mutated` is the harness that should find the mutant, if the shelf has it. */
function chosen(
  names: readonly string[],
  shelf: Shelf,
  mutated: Harness | undefined,
  { deep }: CheckFlags,
): readonly Harness[] {
  if (names.length > 0) return names.map((name) => harnessNamed(name, shelf));
  if (mutated !== undefined) return [mutated];
  return shelf.harnesses.filter((harness) => deep || harness.isDeep !== true);
}

function modelsFor(
  { memoryModels }: Harness,
  mutant: Mutant | undefined,
  flags: CheckFlags,
): readonly MemoryModel[] {
  if (flags.memoryModel !== undefined) return [flags.memoryModel];
  return mutant === undefined ? memoryModels : [mutant.memoryModel];
}

async function replay(path: string, shelf: Shelf, isJson: boolean): Promise<number> {
  const saved = loadCounterexample(path);
  let narration: Narration;
  try {
    const mutant = saved.mutant === undefined ? undefined : mutantNamed(saved.mutant, shelf);
    const { explore, harnesses } = await loadBuild(shelf, mutant);
    const harness = harnessNamed(saved.harness, { ...shelf, harnesses });
    narration = explore.narrate(harness, saved.memoryModel, saved.schedule);
  } catch (error) {
    throw errorOf(path, error);
  }
  return tellReplay(path, saved, narration, isJson);
}

function list({ harnesses, mutants }: Shelf, { json }: CheckFlags): number {
  if (json) {
    const listed = harnesses.map((harness) => asListed(harness, mutants));
    console.log(JSON.stringify(listed, undefined, 2));
    return 0;
  }
  for (const { name, title, memoryModels, isDeep } of harnesses) {
    console.log(`${name} (${memoryModels.join(", ")}${isDeep ? "; --deep" : ""}): ${title}`);
    for (const mutant of mutants) if (mutant.harness === name) console.log(mutantLine(mutant));
  }
  return 0;
}

/** A harness and the mutants that it finds, as data. */
function asListed(
  { name, title, memoryModels, isDeep }: Harness,
  mutants: readonly Mutant[],
): object {
  const own = mutants.filter(({ harness }) => harness === name);
  return {
    name,
    title,
    memoryModels,
    isDeep: isDeep === true,
    mutants: own.map(({ name, breaks, memoryModel }) => ({ name, breaks, memoryModel })),
  };
}
