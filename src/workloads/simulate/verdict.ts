/**
 * The answer to "is strict what limits me?": what the modes have in common and what one loses,
 * of runs that differ in nothing but the mode.
 */

import type { SimulationResult } from "./result.js";

/** Modes whose rates are this close give the same number: runs of one mode differ by as much. */
const SAME = 0.05;
/** From here on a difference in CPU time is worth telling. */
const COSTLY = 1.25;

/** A sentence, or undefined when there is one mode only. */
export function verdictOf(results: readonly SimulationResult[]): string | undefined {
  if (results.length < 2) return undefined;
  const fastest = results.reduce((most, one) => (one.perSecond > most.perSecond ? one : most));
  const base = results.find(({ mode }) => mode === "passthrough") ?? fastest;
  const slower = results.filter(({ perSecond }) => perSecond < (1 - SAME) * base.perSecond);
  if (slower.length === 0) {
    const same = `all modes give the same number: what limits is ${base.bottleneck.text}`;
    return [same, ...results.flatMap((result) => costOf(result, base))].join("; ");
  }
  return slower
    .map((result) => {
      const lost = Math.round(100 * (1 - result.perSecond / base.perSecond));
      return `${result.mode} loses ${lost} % against ${base.mode}: ${result.bottleneck.text}`;
    })
    .join("; ");
}

/** What a mode takes of the CPUs where it does not take from the rate. */
function costOf(result: SimulationResult, base: SimulationResult): string[] {
  const times = result.cpuNsPerRequest / base.cpuNsPerRequest;
  if (!(times >= COSTLY)) return [];
  return [`${result.mode} takes ${times.toFixed(1)} times the CPU time of ${base.mode}`];
}
