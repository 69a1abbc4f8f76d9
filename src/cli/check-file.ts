/**
 * What `check` saves: counterexamples, which `--replay` plays back, and where a search stopped,
 * which `--state` goes on from.
 */

import { existsSync, readFileSync, renameSync, statSync, writeFileSync } from "node:fs";
import { z } from "zod";
import type { Schedule, StackEntry } from "#explore";
import type { MemoryModel } from "#machine";
import { UsageError } from "./errors.js";

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
  write(path, { iommukit: "counterexample 1", ...saved }, "--save FILE");
}

export function saveSearch(path: string, saved: SavedSearch): void {
  write(path, { iommukit: "search 1", ...saved }, "--state FILE");
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

/** Writes under another name first, so that there is never half a file. */
function write(path: string, content: object, option: string): void {
  const text = `${JSON.stringify(content, undefined, 1)}\n`;
  const temporary = `${path}.${process.pid}.tmp`;
  try {
    writeFileSync(temporary, text);
    renameSync(temporary, path);
  } catch (error) {
    throw new UsageError(`${path}: cannot be written (${reason(error)}); use ${option}`);
  }
}

function load<T>(path: string, schema: z.ZodType<T>): T {
  let text: string;
  try {
    if (statSync(path).size > FILE_BYTES_MAX) throw new UsageError(`${path}: is too long`);
    text = readFileSync(path, "utf8");
  } catch (error) {
    if (error instanceof UsageError) throw error;
    throw new UsageError(`${path}: cannot be read (${reason(error)})`);
  }
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

function reason(error: unknown): string {
  return (error as NodeJS.ErrnoException).code ?? String(error);
}
