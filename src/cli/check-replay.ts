/**
 * `iommukit check --replay`: holds what a saved schedule does now against what its file says that
 * it shows. What does not break a rule any more is no result: a file that was cut off or edited
 * would look like code that was mended.
 */

import type { Narration } from "#explore";
import type { SavedCounterexample } from "./check-file.js";
import { narrationTable } from "./check-text.js";
import { UsageError } from "./errors.js";
import { printable } from "./printable.js";

/** Prints the counterexample; returns the exit code, and throws where no rule is broken. */
export function tellReplay(
  path: string,
  saved: SavedCounterexample,
  narration: Narration,
  isJson: boolean,
): number {
  if (narration.message === undefined) {
    throw new UsageError(`${path}: ${whyNot(saved, narration.isOver)}`);
  }
  if (isJson) console.log(JSON.stringify({ ...saved, narration }, undefined, 2));
  else console.log(narrationTable(narration));
  if (narration.message !== saved.message) {
    const said = printable(`${path}: breaks another rule than the saved one (${saved.message})`);
    process.stderr.write(`iommukit: ${said}\n`);
  }
  return 1;
}

function whyNot(
  { harness, memoryModel, mutant, message, schedule }: SavedCounterexample,
  isOver: boolean,
): string {
  const end = isOver ? "breaks no rule to its end" : "ends before the execution does";
  const fault = mutant === undefined ? "" : ` --mutant ${mutant}`;
  return (
    `the saved violation did not appear (${message}): the schedule of ${schedule.steps.length} ` +
    `steps ${end}; the file or the code has changed since: search anew with ` +
    `\`iommukit check ${harness} --memory-model ${memoryModel}${fault}\``
  );
}
