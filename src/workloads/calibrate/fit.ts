/**
 * Fits the free parameters of a profile to measured runs: each trial simulates all runs, and
 * Levenberg and Marquardt's method makes the weighted squares of the logarithms of measured to
 * simulated latency least. Deterministic: every trial has the same seed.
 */

import type { Profile } from "#platform";
import {
  DEFAULT_PARAMETERS,
  DIRECTION_NAMES,
  MapBenchmark,
  MapMode,
} from "../map-benchmark/index.js";
import {
  type MeasuredRun,
  missingRun,
  mistakenModes,
  type Observation,
  observationsOf,
} from "./observations.js";
import { FREE_PARAMETERS, withFactors } from "./parameters.js";

export interface FittedParameter {
  readonly name: string;
  readonly what: string;
  readonly factor: number;
  readonly valueNs: number;
  /** 95 % interval of the value. */
  readonly lowNs: number;
  readonly highNs: number;
}

export interface Residual extends Observation {
  readonly source: string;
  readonly threads: number;
  readonly fittedNs: number;
}

export interface Calibration {
  readonly factors: readonly number[];
  readonly parameters: readonly FittedParameter[];
  readonly residuals: readonly Residual[];
  readonly trials: number;
}

/** The runs do not tell the parameters; the message says which run to add, or what is wrong with one. */
export class CalibrationError extends Error {
  override readonly name = "CalibrationError";
  readonly code = "UNDETERMINED";
}

/** How far a factor may go: beyond, it is another kind of machine. */
const FACTOR_MAX = 20;
/** Step of the derivatives, in the logarithm: more than what chance moves the simulation by. */
const STEP = 0.15;
const ITERATIONS_MAX = 6;
/** A parameter that is not known within a factor of this is not known. */
const FACTOR_KNOWN = 3;
/** Virtual time of a trial's run, at most: some thousand loops, and hundreds of each CPU. */
const TRIAL_NS_MAX = 2_000_000;
/**
 * In lazy mode the address caches have to fill first, from one tree: with 16 CPUs that is most of
 * the first 5 ms, and some percent of 20. Real runs take seconds.
 */
const LAZY_TRIAL_NS_MAX = 20_000_000;
const TURNS = 1e6;

/** Rejects with `CalibrationError` when the runs do not tell. */
export async function calibrate(
  runs: readonly MeasuredRun[],
  base: Profile,
  onTrial: (trials: number) => void = () => {},
): Promise<Calibration> {
  const mistaken = mistakenModes(runs);
  if (mistaken !== undefined) throw new CalibrationError(mistaken);
  const missing = missingRun(runs);
  if (missing !== undefined) {
    throw new CalibrationError(`the runs do not tell all parameters; add ${missing}`);
  }
  const observations = observationsOf(runs);
  if (observations.length < FREE_PARAMETERS.length) {
    throw new CalibrationError(
      "most latencies are printed as 0.0; add runs with -g 16, whose latencies are longer",
    );
  }
  // Only who calibrates waits for it: it takes as long to load as Node to start.
  const { levenbergMarquardt } = await import("ml-levenberg-marquardt");
  const trials = new Trials(runs, observations, base, onTrial);
  const start = FREE_PARAMETERS.map(() => 0);
  const limit = Math.log(FACTOR_MAX);
  const { parameterValues } = levenbergMarquardt(
    {
      x: observations.map((_, index) => index),
      y: observations.map(({ ns, error }) => Math.log(ns) / error),
    },
    (logs) => {
      const simulated = trials.of(logs);
      return (index) => simulated[index];
    },
    {
      initialValues: start,
      minValues: start.map(() => -limit),
      maxValues: start.map(() => limit),
      gradientDifference: STEP,
      maxIterations: ITERATIONS_MAX,
      errorTolerance: observations.length / 4,
      damping: 0.1,
    },
  );
  const errors = standardErrors(trials, parameterValues, observations);
  return result(runs, observations, base, trials, parameterValues, errors);
}

/** Simulated latencies of all observations, by the logarithms of the factors. */
class Trials {
  readonly #runs: readonly MeasuredRun[];
  readonly #observations: readonly Observation[];
  readonly #base: Profile;
  readonly #onTrial: (trials: number) => void;
  readonly #known = new Map<string, readonly number[]>();

  constructor(
    runs: readonly MeasuredRun[],
    observations: readonly Observation[],
    base: Profile,
    onTrial: (trials: number) => void,
  ) {
    this.#runs = runs;
    this.#observations = observations;
    this.#base = base;
    this.#onTrial = onTrial;
  }

  get count(): number {
    return this.#known.size;
  }

  /** Logarithms of the latencies in units of their standard errors. */
  of(logs: readonly number[]): readonly number[] {
    const key = logs.join(" ");
    const known = this.#known.get(key);
    if (known !== undefined) return known;
    const profile = withFactors(this.#base, logs.map(Math.exp));
    const outcomes = this.#runs.map((run) => simulate(run, profile));
    const simulated = this.#observations.map(({ run, kind, error }) => {
      const { mapMeanNs, unmapMeanNs } = outcomes[run];
      return Math.log(kind === "map" ? mapMeanNs : unmapMeanNs) / error;
    });
    this.#known.set(key, simulated);
    this.#onTrial(this.count);
    return simulated;
  }
}

function simulate({ mode, printed }: MeasuredRun, profile: Profile) {
  const { threads, granule, mapMode, direction } = printed;
  const benchmark = new MapBenchmark({
    mode,
    profile,
    simulatedNsMax: mode === "lazy" ? LAZY_TRIAL_NS_MAX : TRIAL_NS_MAX,
    parameters: {
      ...DEFAULT_PARAMETERS,
      seconds: 1,
      threads,
      granule,
      mapMode: mapMode === "SG_MODE" ? MapMode.scatterGather : MapMode.single,
      direction: direction === undefined ? 0 : DIRECTION_NAMES.indexOf(direction),
    },
  });
  while (!benchmark.runSome(TURNS));
  return benchmark.outcome();
}

/** Of the logarithms, from the curvature at the solution and how well it fits. */
function standardErrors(
  trials: Trials,
  logs: readonly number[],
  observations: readonly Observation[],
): number[] {
  const at = (parameter: number, step: number): readonly number[] =>
    trials.of(logs.map((log, index) => (index === parameter ? log + step : log)));
  const slopes = logs.map((_, parameter) => {
    const [up, down] = [at(parameter, STEP), at(parameter, -STEP)];
    return observations.map((_, index) => (up[index] - down[index]) / (2 * STEP));
  });
  const best = trials.of(logs);
  const squares = observations.reduce(
    (sum, { ns, error }, index) => sum + (Math.log(ns) / error - best[index]) ** 2,
    0,
  );
  const freedom = Math.max(1, observations.length - logs.length);
  // Not less than the errors that the observations are known to have.
  const variance = Math.max(1, squares / freedom);
  const normal = slopes.map((a) =>
    slopes.map((b) => a.reduce((sum, value, index) => sum + value * b[index], 0)),
  );
  return inverseDiagonal(normal).map((value) => Math.sqrt(variance * value));
}

/** Diagonal of the inverse of a small symmetric matrix; infinite where it has none. */
export function inverseDiagonal(matrix: readonly (readonly number[])[]): number[] {
  const size = matrix.length;
  const rows = matrix.map((row, at) => [...row, ...row.map((_, index) => (index === at ? 1 : 0))]);
  for (let column = 0; column < size; column++) {
    let pivot = column;
    for (let at = column; at < size; at++) {
      if (Math.abs(rows[at][column]) > Math.abs(rows[pivot][column])) pivot = at;
    }
    [rows[column], rows[pivot]] = [rows[pivot], rows[column]];
    const divisor = rows[column][column];
    if (Math.abs(divisor) < 1e-9) return matrix.map(() => Number.POSITIVE_INFINITY);
    rows[column] = rows[column].map((value) => value / divisor);
    for (let at = 0; at < size; at++) {
      if (at === column) continue;
      const factor = rows[at][column];
      rows[at] = rows[at].map((value, index) => value - factor * rows[column][index]);
    }
  }
  return rows.map((row, at) => row[size + at]);
}

/** Of Student's distribution with few degrees of freedom; 95 %. */
const T_95 = 2.4;

function result(
  runs: readonly MeasuredRun[],
  observations: readonly Observation[],
  base: Profile,
  trials: Trials,
  logs: readonly number[],
  errors: readonly number[],
): Calibration {
  const parameters = FREE_PARAMETERS.map(({ name, what, shownNs, neededRun }, index) => {
    const spread = Math.exp(T_95 * errors[index]);
    if (!(spread <= FACTOR_KNOWN)) {
      throw new CalibrationError(
        `the runs do not tell ${what}; add ${neededRun}, or repeat it with more threads`,
      );
    }
    const factor = Math.exp(logs[index]);
    const valueNs = shownNs(base) * factor;
    return { name, what, factor, valueNs, lowNs: valueNs / spread, highNs: valueNs * spread };
  });
  const best = trials.of(logs);
  const residuals = observations.map((observation, index) => ({
    ...observation,
    source: runs[observation.run].source,
    threads: runs[observation.run].printed.threads,
    fittedNs: Math.exp(best[index] * observation.error),
  }));
  return { factors: logs.map(Math.exp), parameters, residuals, trials: trials.count };
}
