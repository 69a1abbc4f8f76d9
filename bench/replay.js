/**
 * Replay of bundled captures: captured maps and unmaps performed per second of CPU time of the host on
 * the timed machine, device accesses included. The captures are decoded before.
 */

import { fileURLToPath } from "node:url";
import { joinOperations, openCapture } from "../dist/capture/index.js";
import { genericArm } from "../dist/platform/index.js";
import { MODES, replay, Survey } from "../dist/workloads/index.js";
import { cpuSecondsOf, sampled } from "./measure.js";

const CAPTURES = ["smmu-nvme-strict.dat.gz", "smmu-big-strict.dat", "smmu-mixed-strict-4.dat"];

async function prepare(file, mode) {
  const capture = await openCapture(fileURLToPath(new URL(`../fixtures/${file}`, import.meta.url)));
  const operations = [...joinOperations(capture.events())];
  capture.close();
  const survey = new Survey();
  for (const operation of operations) survey.add(operation);
  const options = { mode, profile: genericArm, survey, pace: "closed" };
  return () => operations.length / cpuSecondsOf(() => replay(operations, options));
}

export const title = "Replay";
export const cases = CAPTURES.flatMap((file) =>
  MODES.map((mode) =>
    sampled({
      name: `${file.replace(/\.dat.*/, "")}, ${mode}`,
      unit: "operations/s",
      prepare: () => prepare(file, mode),
    }),
  ),
);
