/** Counterexamples as files: what `check` saves and `check --replay` plays back. */

import { readFileSync, renameSync, statSync, writeFileSync } from "node:fs";
import { z } from "zod";
import type { Schedule } from "#explore";
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

/** Writes under another name first, so that there is never half a file. */
export function saveCounterexample(path: string, saved: SavedCounterexample): void {
  const text = `${JSON.stringify({ iommukit: "counterexample 1", ...saved }, undefined, 1)}\n`;
  const temporary = `${path}.${process.pid}.tmp`;
  try {
    writeFileSync(temporary, text);
    renameSync(temporary, path);
  } catch (error) {
    throw new UsageError(`${path}: cannot be written (${reason(error)}); use --save FILE`);
  }
}

export function loadCounterexample(path: string): SavedCounterexample {
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
  const parsed = savedSchema.safeParse(data);
  if (parsed.success) return { ...parsed.data, mutant: parsed.data.mutant };
  const issue = parsed.error.issues[0];
  const place = issue.path.join(".") || "the file";
  throw new UsageError(
    `${path}: ${place}: ${issue.message}; give a file that \`iommukit check\` saved`,
  );
}

function reason(error: unknown): string {
  return (error as NodeJS.ErrnoException).code ?? String(error);
}
