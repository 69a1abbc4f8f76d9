/** `iommukit check`: explores the interleavings of the stack's protocols. */

import { type Command, InvalidArgumentError, Option } from "commander";
import {
  type CheckOptions,
  type CheckReport,
  DivergedError,
  findHarness,
  findMutant,
  HARNESSES,
  type Harness,
  loadMutant,
  MUTANTS,
  type Mutant,
  MutantError,
  NondeterminismError,
  type StackEntry,
} from "#explore";
import type { MemoryModel } from "#machine";
import {
  loadCounterexample,
  loadSearch,
  type SavedCounterexample,
  saveCounterexample,
  saveSearch,
} from "./check-file.js";
import { mutantLine, narrationTable, reportLine } from "./check-text.js";
import { UsageError } from "./errors.js";
import { createProgress, type Progress } from "./progress.js";

interface CheckFlags {
  readonly memoryModel?: MemoryModel;
  readonly mutant?: string;
  readonly bound?: number;
  readonly seed?: number;
  readonly executions?: number;
  readonly seconds?: number;
  readonly workers?: number;
  readonly deep?: true;
  readonly twice?: true;
  readonly json?: true;
  readonly list?: true;
  readonly replay?: string;
  readonly save?: string;
  readonly state?: string;
}

/** The room, or the one of a mutated build. */
type Explore = Pick<
  typeof import("#explore"),
  "checkHarness" | "checkParallel" | "findHarness" | "narrate"
>;

/** Random walks do not end by themselves. */
const WALKS = 20_000;

export function defineCheck(command: Command, setExitCode: (code: number) => void): void {
  command
    .argument("[harness...]", "names of harnesses (default: all)")
    .addOption(
      new Option("--memory-model <model>", "default: each that the harness is for").choices([
        "sc",
        "tso",
        "weak",
      ]),
    )
    .option("--mutant <name>", "put a named fault into the code, which must be found")
    .option("--bound <n>", "only schedules with at most so many preemptions", parseCount)
    .option("--seed <n>", "random walks from this seed instead of a complete search", parseCount)
    .option("--executions <n>", `stop after so many (random walks: ${WALKS})`, parseCount)
    .option("--seconds <n>", "stop after so many seconds per harness and model", parseCount)
    .option("--deep", "the large harnesses, too")
    .option("--workers <n>", "explore on so many threads", parseCount)
    .option("--twice", "run every schedule twice and compare: is the harness deterministic?")
    .option("--json", "print JSON, with --list and --replay too")
    .option("--list", "list harnesses and mutants")
    .option("--replay <file>", "play a saved counterexample back")
    .option("--save <file>", "where a counterexample goes (default: HARNESS.counterexample.json)")
    .option("--state <file>", "where a search that is cut short is kept, and taken up again")
    .addHelpText("after", "\nExit codes: 0 nothing found, 1 a rule is broken, 2 usage error.")
    .action(async (names: string[], flags: CheckFlags) => {
      setExitCode(await checkCommand(names, flags));
    });
}

async function checkCommand(names: readonly string[], flags: CheckFlags): Promise<number> {
  try {
    if (flags.list) return list(flags.json === true);
    if (flags.replay !== undefined) return await replay(flags.replay, flags);
    if (flags.bound !== undefined && flags.seed !== undefined) {
      throw new UsageError(
        "--bound is for a complete search and --seed for random walks; give one",
      );
    }
    refuseCombinations(flags);
    return await checkAll(names, flags);
  } catch (error) {
    if (error instanceof NondeterminismError || error instanceof DivergedError) {
      throw new UsageError(error.message);
    }
    if (error instanceof MutantError) throw new UsageError(error.message);
    throw error;
  }
}

/** Random walks and bounds have no stack to keep, and workers have many. */
function refuseCombinations({ workers, state, seed, bound, twice }: CheckFlags): void {
  const isOther = seed !== undefined || bound !== undefined || twice !== undefined;
  if (workers !== undefined && (isOther || state !== undefined)) {
    throw new UsageError("--workers goes with none of --seed, --bound, --twice and --state");
  }
  if (state !== undefined && (seed !== undefined || bound !== undefined)) {
    throw new UsageError("--state is for complete searches, not for --seed or --bound");
  }
}

async function checkAll(names: readonly string[], flags: CheckFlags): Promise<number> {
  const mutant = flags.mutant === undefined ? undefined : mutantNamed(flags.mutant);
  const harnesses = chosen(names, mutant, flags.deep === true);
  const explore: Explore =
    mutant === undefined ? await import("#explore") : await loadMutant(mutant);
  const reports: CheckReport[] = [];
  const progress = createProgress();
  for (const { name, memoryModels } of harnesses) {
    const harness = explore.findHarness(name) as Harness;
    for (const memoryModel of modelsFor(memoryModels, mutant, flags)) {
      const report = await checkOne(explore, harness, memoryModel, flags, progress);
      reports.push(report);
      if (!flags.json) console.log(reportLine(report));
      const { counterexample } = report;
      if (counterexample === undefined) continue;
      const path = flags.save ?? `${name}.counterexample.json`;
      const { message, schedule } = counterexample;
      saveCounterexample(path, {
        harness: name,
        memoryModel,
        mutant: mutant?.name,
        message,
        schedule,
      });
      if (!flags.json) {
        console.log(narrationTable(counterexample.narration));
        console.log(`saved: iommukit check --replay ${path}`);
      }
      break;
    }
  }
  if (flags.json) console.log(JSON.stringify({ mutant: mutant?.name, reports }, undefined, 2));
  return reports.some(({ verdict }) => verdict === "violation" || verdict === "goals missed")
    ? 1
    : 0;
}

async function checkOne(
  explore: Explore,
  harness: Harness,
  memoryModel: MemoryModel,
  flags: CheckFlags,
  progress: Progress,
): Promise<CheckReport> {
  const { workers, mutant, state } = flags;
  const executionsMax = flags.executions ?? (flags.seed === undefined ? undefined : WALKS);
  const limits = {
    memoryModel,
    ...(executionsMax !== undefined && { executionsMax }),
    ...(flags.seconds !== undefined && { secondsMax: flags.seconds }),
  };
  if (workers !== undefined) {
    return await explore.checkParallel(harness, { ...limits, workers, mutant });
  }
  const saved = state === undefined ? undefined : stateFor(state, harness, memoryModel, mutant);
  const keep = (stack: readonly StackEntry[]): void => {
    if (state !== undefined) {
      saveSearch(state, { harness: harness.name, memoryModel, mutant, stack });
    }
  };
  const options: CheckOptions = {
    ...limits,
    ...(flags.bound !== undefined && { preemptionsMax: flags.bound }),
    ...(flags.seed !== undefined && { seed: flags.seed }),
    ...(flags.twice && { isTwice: true }),
    ...(saved !== undefined && { stack: saved }),
    onStop: keep,
    onProgress: (executions, pruned) => progress.update(executions + pruned),
  };
  progress.beginCount(`${harness.name} ${memoryModel}: executions`);
  try {
    return explore.checkHarness(harness, options);
  } finally {
    progress.stop();
  }
}

/** Where the search that the file is of stopped; it must be of the same harness and model. */
function stateFor(
  path: string,
  { name }: Harness,
  memoryModel: MemoryModel,
  mutant: string | undefined,
): readonly StackEntry[] | undefined {
  const saved = loadSearch(path);
  if (saved === undefined) return undefined;
  if (saved.harness !== name || saved.memoryModel !== memoryModel || saved.mutant !== mutant) {
    throw new UsageError(
      `${path}: is a search of ${saved.harness} under ${saved.memoryModel}; name that harness and ` +
        "--memory-model, or give another --state",
    );
  }
  if (saved.stack.length === 0) {
    throw new UsageError(`${path}: that search is complete; give another --state to begin anew`);
  }
  return saved.stack;
}

function chosen(
  names: readonly string[],
  mutant: Mutant | undefined,
  isDeep: boolean,
): readonly Harness[] {
  if (names.length === 0) {
    if (mutant !== undefined) return [harnessNamed(mutant.harness)];
    return HARNESSES.filter((harness) => isDeep || harness.isDeep !== true);
  }
  return names.map(harnessNamed);
}

function modelsFor(
  all: readonly MemoryModel[],
  mutant: Mutant | undefined,
  flags: CheckFlags,
): readonly MemoryModel[] {
  if (flags.memoryModel !== undefined) return [flags.memoryModel];
  return mutant === undefined ? all : [mutant.memoryModel];
}

async function replay(path: string, flags: CheckFlags): Promise<number> {
  const saved: SavedCounterexample = loadCounterexample(path);
  const mutant = saved.mutant === undefined ? undefined : mutantNamed(saved.mutant);
  const explore: Explore =
    mutant === undefined ? await import("#explore") : await loadMutant(mutant);
  const harness = explore.findHarness(harnessNamed(saved.harness).name) as Harness;
  const narration = explore.narrate(harness, saved.memoryModel, saved.schedule);
  if (flags.json) console.log(JSON.stringify({ ...saved, narration }, undefined, 2));
  else console.log(narrationTable(narration));
  return narration.message === undefined ? 0 : 1;
}

function list(isJson: boolean): number {
  if (isJson) {
    console.log(JSON.stringify(HARNESSES.map(listed), undefined, 2));
    return 0;
  }
  for (const { name, title, memoryModels, isDeep } of HARNESSES) {
    console.log(`${name} (${memoryModels.join(", ")}${isDeep ? "; --deep" : ""}): ${title}`);
    for (const mutant of MUTANTS) if (mutant.harness === name) console.log(mutantLine(mutant));
  }
  return 0;
}

/** A harness and the mutants that it finds, as data. */
function listed({ name, title, memoryModels, isDeep }: Harness): object {
  const own = MUTANTS.filter(({ harness }) => harness === name);
  return {
    name,
    title,
    memoryModels,
    isDeep: isDeep === true,
    mutants: own.map(({ name, breaks, memoryModel }) => ({ name, breaks, memoryModel })),
  };
}

function harnessNamed(name: string): Harness {
  const harness = findHarness(name);
  if (harness !== undefined) return harness;
  throw new UsageError(`no harness is called "${name}"; \`iommukit check --list\` lists them`);
}

function mutantNamed(name: string): Mutant {
  const mutant = findMutant(name);
  if (mutant !== undefined) return mutant;
  throw new UsageError(`no mutant is called "${name}"; \`iommukit check --list\` lists them`);
}

function parseCount(text: string): number {
  const value = Number(text);
  if (/^\d+$/.test(text) && value < 2 ** 32) return value;
  throw new InvalidArgumentError("give a whole number below 2^32.");
}
