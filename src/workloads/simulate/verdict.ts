/**
 * The answer to "is strict what limits me?": what the modes have in common and what one loses,
 * of runs that differ in nothing but the mode.
 *
 * Every difference is told with half the width of its 95 % interval, and what is said rests on
 * the whole interval: another seed or another runtime may move a number, and hardly the answer.
 */

import type { SimulationResult } from "./result.js";

/** A difference from here on is told as one, if it is surely there. */
const NOTABLE = 0.02;
/** What a run has to be able to see: who chooses a mode wants to know of that much. */
const VISIBLE = 0.05;
/** From here on a difference in CPU time is worth telling. */
const COSTLY = 1.25;

/** Of a mode against another: what it loses of the rate, 0 to 1, and how well that is known. */
interface Loss {
  readonly result: SimulationResult;
  readonly lost: number;
  readonly halfWidth: number;
}

/** A sentence, or undefined when there is one mode only. */
export function verdictOf(results: readonly SimulationResult[]): string | undefined {
  if (results.length < 2) return undefined;
  const fastest = results.reduce((most, one) => (one.perSecond > most.perSecond ? one : most));
  const base = results.find(({ mode }) => mode === "passthrough") ?? fastest;
  if (base.perSecond === 0) return `nothing completed in ${base.mode}; ${LONGER}`;
  const losses = results.filter((result) => result !== base).map((result) => lossOf(result, base));
  const told = losses.filter(isDifferent).map((loss) => difference(loss, base));
  const unsure = losses.filter((loss) => !isDifferent(loss) && mayHide(loss));
  if (unsure.length > 0) {
    told.push(`the runs are too short to tell (${comparisons(unsure, base)})`, LONGER);
  }
  if (told.length > 0) return told.join("; ");
  const compared = comparisons(losses, base);
  const same = `all modes give the same number (${compared}): what limits is ${base.bottleneck.text}`;
  return [same, ...losses.flatMap(({ result }) => costOf(result, base))].join("; ");
}

const LONGER = "take a longer --runtime";

function lossOf(result: SimulationResult, base: SimulationResult): Loss {
  const rest = result.perSecond / base.perSecond;
  const halfWidth =
    Math.hypot(result.perSecondHalfWidth, rest * base.perSecondHalfWidth) / base.perSecond;
  return { result, lost: 1 - rest, halfWidth };
}

/** None of the interval says that there is no difference. */
function isDifferent({ lost, halfWidth }: Loss): boolean {
  return Math.abs(lost) >= NOTABLE && Math.abs(lost) > halfWidth;
}

/** Some of the interval says that there is a large one. */
function mayHide({ lost, halfWidth }: Loss): boolean {
  return Math.abs(lost) + halfWidth >= VISIBLE;
}

/**
 * Where the same part is used up in both modes it is named as such: then a small loss says how
 * closely, not what else limits. With too few requests in flight it is the mode's own latency.
 */
function difference(loss: Loss, base: SimulationResult): string {
  const { mode, bottleneck } = loss.result;
  const verb = loss.lost > 0 ? "loses" : "gains";
  const what = `${mode} ${verb} ${percent(loss)} against ${base.mode}`;
  const { kind, text } = bottleneck;
  if (kind !== base.bottleneck.kind || kind === "depth") return `${what}: ${text}`;
  const both = `${what}, and the same limits both: ${text}`;
  return [both, ...costOf(loss.result, base)].join(", and ");
}

function comparisons(losses: readonly Loss[], base: SimulationResult): string {
  return losses.map((loss) => `${loss.result.mode} ${comparison(loss, base)}`).join(", ");
}

function comparison(loss: Loss, base: SimulationResult): string {
  const { lost, halfWidth } = loss;
  if (Math.abs(lost) <= halfWidth && !mayHide(loss)) return `as ${base.mode} ±${width(loss)} %`;
  return `${percent(loss)} ${lost >= 0 ? "below" : "above"} ${base.mode}`;
}

/** `2.2 ±0.3 %`: to a tenth where that is known. */
function percent(loss: Loss): string {
  return `${(100 * Math.abs(loss.lost)).toFixed(digits(loss))} ±${width(loss)} %`;
}

function width(loss: Loss): string {
  return Math.max(100 * loss.halfWidth, 0.1).toFixed(digits(loss));
}

function digits({ halfWidth }: Loss): number {
  return halfWidth < 0.01 ? 1 : 0;
}

/** What a mode takes of the CPUs where it does not take from the rate. */
function costOf(result: SimulationResult, base: SimulationResult): string[] {
  const times = result.cpuNsPerRequest / base.cpuNsPerRequest;
  if (!(times >= COSTLY)) return [];
  return [`${result.mode} takes ${times.toFixed(1)} times the CPU time of ${base.mode}`];
}
