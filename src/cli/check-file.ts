/**
 * What `check` saves: counterexamples, which `--replay` plays back, and where a search stopped,
 * which `--state` goes on from.
 */

import { existsSync } from "node:fs";
import { z } from "zod";
import { EVENTS_MAX, type Schedule, type SearchResult, type SearchState } from "#explore";
import type { MemoryModel } from "#machine";
import { UsageError } from "./errors.js";
import { readSmallFile } from "./small-file.js";
import { WholeFile } from "./whole-file.js";

export interface SavedCounterexample {
  readonly harness: string;
  readonly memoryModel: MemoryModel;
  readonly mutant: string | undefined;
  readonly message: string;
  readonly schedule: Schedule;
}

/** Longer than any schedule: one has at most some thousand short names. */
const FILE_BYTES_MAX = 2 ** 24;

const savedSchema = z.strictObject({
  iommukit: z.literal("counterexample 1"),
  harness: z.string(),
  memoryModel: z.enum(["sc", "tso", "weak"]),
  mutant: z.string().optional(),
  message: z.string(),
  schedule: z.strictObject({
    steps: z.array(z.string()).max(EVENTS_MAX),
    picks: z.array(z.int().min(0)).max(EVENTS_MAX),
  }),
});

/** What is left of a search of some harness under some model, and what came of the rest. */
export interface SavedSearch {
  readonly mutant: string | undefined;
  readonly explored: SearchResult;
  readonly stacks: SearchState["stacks"];
}

const stackSchema = z
  .array(
    z.strictObject({
      chosen: z.string(),
      pick: z.tuple([z.int().min(0), z.int().min(-1)]),
      toExplore: z.array(z.string()),
      explored: z.array(z.string()),
      isFrozen: z.boolean(),
    }),
  )
  .max(EVENTS_MAX);

const count = z.int().min(0);

const searchSchema = z.strictObject({
  iommukit: z.literal("search 2"),
  mutant: z.string().optional(),
  explored: z.strictObject({
    harness: z.string(),
    memoryModel: z.enum(["sc", "tso", "weak"]),
    executions: count,
    pruned: count,
    tooDeep: count,
    depthMax: count,
    eventCount: count,
    isComplete: z.boolean(),
    isCut: z.boolean(),
    goalsReached: z.array(z.string()),
    goalsMissed: z.array(z.string()),
    seconds: z.number().min(0),
  }),
  stacks: z.array(stackSchema),
});

export function saveCounterexample(path: string, saved: SavedCounterexample): void {
  const file = new WholeFile("--save", path);
  try {
    file.write(asText({ iommukit: "counterexample 1", ...saved }));
    file.commit();
  } finally {
    file.discard();
  }
}

/** Into a file that was opened before the search, so that what cannot be written is told then. */
export function saveSearch(file: WholeFile, saved: SavedSearch): void {
  file.write(asText({ iommukit: "search 2", ...saved }));
  file.commit();
}

/** Undefined when there is no such file: a search that begins. */
export function loadSearch(path: string): SavedSearch | undefined {
  if (!existsSync(path)) return undefined;
  const { mutant, explored, stacks } = load(path, searchSchema);
  return { mutant, explored: { ...explored, violation: undefined }, stacks };
}

export function loadCounterexample(path: string): SavedCounterexample {
  const loaded = load(path, savedSchema);
  return { ...loaded, mutant: loaded.mutant };
}

/** What does not fit the code, or names what there is not, is the file's: says so. */
export function errorOf(path: string, error: unknown): unknown {
  // By name: that of a mutated build is another class.
  const isMisfit = error instanceof Error && error.name === "DivergedError";
  const isFile = isMisfit || error instanceof UsageError;
  return isFile ? new UsageError(`${path}: ${error.message}`) : error;
}

function asText(content: object): string {
  return `${JSON.stringify(content, undefined, 1)}\n`;
}

function load<T>(path: string, schema: z.ZodType<T>): T {
  const text = readSmallFile(path, FILE_BYTES_MAX, "give a file that `iommukit check` saved");
  let data: unknown;
  try {
    data = JSON.parse(text);
  } catch {
    throw new UsageError(`${path}: is no JSON; give a file that \`iommukit check\` saved`);
  }
  const parsed = schema.safeParse(data);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0];
  const place = issue.path.join(".") || "the file";
  throw new UsageError(
    `${path}: ${place}: ${issue.message}; give a file that \`iommukit check\` saved`,
  );
}
