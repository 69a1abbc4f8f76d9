/** Whole numbers that flags give: threads, seeds, executions. Loads nothing of the stack. */

import { InvalidArgumentError } from "commander";

/** A whole number from `min` to `max`. */
export function parseCount(value: string, min: number, max: number): number {
  const number = Number(value);
  if (!/^\d+$/.test(value) || number < min || number > max) {
    throw new InvalidArgumentError(`it is a whole number from ${min} to ${max}.`);
  }
  return number;
}
