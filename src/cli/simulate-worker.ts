/**
 * A worker thread of `iommukit simulate`: takes plans one after the other, and says how far it
 * is and what came out. Plans and results are plain data.
 */

import { parentPort } from "node:worker_threads";
import { type AnyPlan, createSimulation, type SimulationResult } from "#workloads";
import { Slices } from "./slices.js";

export type FromWorker =
  | { readonly kind: "progress"; readonly progress: number }
  | { readonly kind: "result"; readonly result: SimulationResult }
  | { readonly kind: "failed"; readonly message: string; readonly stack: string };

const port = parentPort;
if (port !== null) {
  const say = (message: FromWorker): void => port.postMessage(message);
  port.on("message", (plan: AnyPlan) => {
    try {
      const simulation = createSimulation(plan);
      const slices = new Slices();
      while (!slices.run((turns) => simulation.runSome(turns))) {
        say({ kind: "progress", progress: simulation.progress });
      }
      say({ kind: "result", result: simulation.result() });
    } catch (error) {
      const { message, stack = "" } = error as Error;
      say({ kind: "failed", message, stack });
    }
  });
}
