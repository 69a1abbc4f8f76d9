/** Calibration: a profile's few free parameters from outputs of a real benchmark. */

export {
  type Calibration,
  CalibrationError,
  calibrate,
  type FittedParameter,
  type Residual,
} from "./fit.js";
export type { MeasuredRun } from "./observations.js";
export { changesOf, type FittedHead } from "./parameters.js";
