/**
 * What `check` saves: counterexamples, which `--replay` plays back, and where a search stopped,
 * which `--state` goes on from.
 */

import { existsSync } from "node:fs";
import { z } from "zod";
import type { Schedule, StackEntry } from "#explore";
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
    steps: z.array(z.string()),
    picks: z.array(z.int().min(0)),
  }),
});

export interface SavedSearch {
  readonly harness: string;
  readonly memoryModel: MemoryModel;
  readonly mutant: string | undefined;
  readonly stack: readonly StackEntry[];
}

const searchSchema = z.strictObject({
  iommukit: z.literal("search 1"),
  harness: z.string(),
  memoryModel: z.enum(["sc", "tso", "weak"]),
  mutant: z.string().optional(),
  stack: z.array(
    z.strictObject({
      chosen: z.string(),
      pick: z.tuple([z.int(), z.int()]),
      toExplore: z.array(z.string()),
      explored: z.array(z.string()),
      isFrozen: z.boolean(),
    }),
  ),
});

export function saveCounterexample(path: string, saved: SavedCounterexample): void {
  write(path, { iommukit: "counterexample 1", ...saved }, "--save");
}

export function saveSearch(path: string, saved: SavedSearch): void {
  write(path, { iommukit: "search 1", ...saved }, "--state");
}

/** Undefined when there is no such file: a search that begins. */
export function loadSearch(path: string): SavedSearch | undefined {
  if (!existsSync(path)) return undefined;
  const loaded = load(path, searchSchema);
  return { ...loaded, mutant: loaded.mutant };
}

export function loadCounterexample(path: string): SavedCounterexample {
  const loaded = load(path, savedSchema);
  return { ...loaded, mutant: loaded.mutant };
}

function write(path: string, content: object, flag: string): void {
  const file = new WholeFile(flag, path);
  try {
    file.write(`${JSON.stringify(content, undefined, 1)}\n`);
    file.commit();
  } finally {
    file.discard();
  }
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
