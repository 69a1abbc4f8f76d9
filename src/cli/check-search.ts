/**
 * One search of `iommukit check`, which Ctrl-C ends. With `--state` what is left of it is kept in a
 * file, from which the same command goes on.
 */

import type {
  CheckReport,
  checkLong,
  Harness,
  LongCheck,
  LongCheckOptions,
  SearchState,
} from "#explore";
import type { MemoryModel } from "#machine";
import { errorOf, loadSearch, type SavedSearch, saveSearch } from "./check-file.js";
import { InterruptedError, UsageError } from "./errors.js";
import { createProgress } from "./progress.js";
import { WholeFile } from "./whole-file.js";

/** How a search is to be made. */
export interface SearchFlags {
  readonly mutant?: string;
  /** URL of the module that the harness comes from, if it is no harness of ours. */
  readonly module?: string | undefined;
  readonly bound?: number;
  readonly seed?: number;
  readonly executions?: number;
  readonly seconds?: number;
  readonly workers?: number;
  readonly twice?: true;
  readonly state?: string;
}

/** Random walks do not end by themselves. */
export const WALKS = 20_000;

/** Checks with the room's own code, or that of a mutated build. */
export async function runCheck(
  explore: { readonly checkLong: typeof checkLong },
  harness: Harness,
  memoryModel: MemoryModel,
  flags: SearchFlags,
  signal: AbortSignal,
): Promise<CheckReport> {
  if (signal.aborted) throw new InterruptedError("stopped");
  const { state: path, mutant } = flags;
  const state = path === undefined ? undefined : loadState(path, harness, memoryModel, mutant);
  const file = path === undefined ? undefined : new WholeFile("--state", path);
  const progress = createProgress();
  progress.beginCount(`${harness.name} ${memoryModel}: executions`);
  try {
    const options: LongCheckOptions = {
      ...optionsOf(harness, flags),
      memoryModel,
      signal,
      ...(state !== undefined && { state }),
      onExplored: (executions) => progress.update(executions),
    };
    const check = await explore.checkLong(harness, options).catch((error) => {
      throw path === undefined ? error : errorOf(path, error);
    });
    progress.stop();
    return ended(check, flags, file, signal);
  } finally {
    progress.stop();
    file?.discard();
  }
}

function optionsOf(harness: Harness, flags: SearchFlags): Omit<LongCheckOptions, "memoryModel"> {
  const { mutant, module, seed, executions, seconds, workers, twice, state } = flags;
  // What can only go without a bound asks for a search without one.
  const isUnbounded = seed !== undefined || workers !== undefined || state !== undefined;
  const bound = flags.bound ?? (isUnbounded ? undefined : harness.preemptionsMax);
  const executionsMax = executions ?? (seed === undefined ? undefined : WALKS);
  return {
    ...(executionsMax !== undefined && { executionsMax }),
    ...(seconds !== undefined && { secondsMax: seconds }),
    ...(bound !== undefined && { preemptionsMax: bound }),
    ...(seed !== undefined && { seed }),
    ...(twice && { isTwice: true }),
    ...(workers !== undefined && { workers }),
    ...(mutant !== undefined && { mutant }),
    ...(module !== undefined && { module }),
  };
}

/** Keeps what is left, unless something was found: that is saved by itself. */
function ended(
  { report, state }: LongCheck,
  { state: path, mutant }: SearchFlags,
  file: WholeFile | undefined,
  signal: AbortSignal,
): CheckReport {
  const isFound = report.verdict === "violation";
  if (file !== undefined && state?.explored !== undefined && !isFound) {
    saveSearch(file, { mutant, explored: state.explored, stacks: state.stacks });
  }
  if (!signal.aborted || report.verdict !== "incomplete") return report;
  if (file !== undefined) {
    throw new InterruptedError(`stopped; ${path} keeps the search: the same command goes on`);
  }
  // Only a complete search has a state.
  const hint = state === undefined ? "" : "; with --state FILE, a search can be taken up again";
  throw new InterruptedError(`stopped${hint}`);
}

/** Where the search that the file is of stopped; it must be of the same harness and model. */
function loadState(
  path: string,
  { name, goals }: Harness,
  memoryModel: MemoryModel,
  mutant: string | undefined,
): SearchState | undefined {
  const saved = loadSearch(path);
  if (saved === undefined) return undefined;
  const { explored, stacks } = saved;
  if (
    explored.harness !== name ||
    explored.memoryModel !== memoryModel ||
    saved.mutant !== mutant
  ) {
    throw new UsageError(
      `${path}: is a search of ${nameOf(saved)}; name these, or give another --state`,
    );
  }
  // Those that were missed so far are what the rest of it has to reach.
  const known = [...explored.goalsReached, ...explored.goalsMissed].sort();
  if (known.join("\n") !== goals.toSorted().join("\n")) {
    throw new UsageError(`${path}: the goals of ${name} are others now; give another --state`);
  }
  if (stacks.length === 0) {
    throw new UsageError(`${path}: that search is complete; give another --state to begin anew`);
  }
  return { explored, stacks };
}

function nameOf({ explored, mutant }: SavedSearch): string {
  const fault = mutant === undefined ? "no mutant" : `mutant ${mutant}`;
  return `${explored.harness} with --memory-model ${explored.memoryModel} and ${fault}`;
}
