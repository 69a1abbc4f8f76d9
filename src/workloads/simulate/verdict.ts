/**
 * The answer to "is strict what limits me?": what the modes have in common and what one loses,
 * of runs that differ in nothing but the mode.
 */

import type { SimulationResult } from "./result.js";

/** Modes whose rates are this close give the same number: runs of one mode differ by as much. */
const SAME = 0.03;

/** A sentence, or undefined when there is one mode only. */
export function verdictOf(results: readonly SimulationResult[]): string | undefined {
  if (results.length < 2) return undefined;
  const fastest = results.reduce((most, one) => (one.perSecond > most.perSecond ? one : most));
  const slowest = results.reduce((least, one) => (one.perSecond < least.perSecond ? one : least));
  const least = slowest.perSecond / fastest.perSecond;
  if (least >= 1 - SAME) {
    return `all modes give the same number: what limits is ${fastest.bottleneck.text}`;
  }
  const parts = results
    .filter((result) => result !== fastest && result.perSecond < (1 - SAME) * fastest.perSecond)
    .map((result) => {
      const lost = Math.round(100 * (1 - result.perSecond / fastest.perSecond));
      return `${result.mode} loses ${lost} % against ${fastest.mode}: ${result.bottleneck.text}`;
    });
  return parts.join("; ");
}
