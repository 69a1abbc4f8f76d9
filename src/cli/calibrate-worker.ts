/**
 * The worker thread of `iommukit calibrate`: fits while the other thread hears Ctrl-C. What it is
 * given (`workerData`) and what it says are plain data.
 */

import { parentPort, workerData } from "node:worker_threads";
import type { Profile } from "#platform";
import { type Calibration, CalibrationError, calibrate, type MeasuredRun } from "#workloads";

export interface CalibrationTask {
  readonly runs: readonly MeasuredRun[];
  readonly base: Profile;
}

export type FromCalibration =
  | { readonly kind: "trials"; readonly trials: number }
  | { readonly kind: "result"; readonly calibration: Calibration }
  /** The runs do not tell: the message says which to add. */
  | { readonly kind: "refused"; readonly message: string };

const port = parentPort;
if (port !== null) {
  const say = (message: FromCalibration): void => port.postMessage(message);
  const { runs, base } = workerData as CalibrationTask;
  try {
    const calibration = await calibrate(runs, base, (trials) => say({ kind: "trials", trials }));
    say({ kind: "result", calibration });
  } catch (error) {
    // What is thrown on comes to the other thread as the worker's error.
    if (!(error instanceof CalibrationError)) throw error;
    say({ kind: "refused", message: error.message });
  }
}
