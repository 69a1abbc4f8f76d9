/** Simulations: whole machines under a load in one mode, from a plan to a result. */

import { assertNever } from "#machine";
import { NetSimulation } from "./net.js";
import { BlockSimulation } from "./nvme.js";
import type { BlockPlan, NetPlan } from "./plan.js";
import type { SimulationResult } from "./result.js";

export type { Bottleneck } from "./bottleneck.js";
export {
  type BlockPlan,
  NET_TESTS,
  type NetPlan,
  type NetTest,
  READ_WRITES,
  type ReadWrite,
  type ReceiveBuffers,
  type SimulationPlan,
} from "./plan.js";
export type { Resource } from "./resources.js";
export type { Latency, SimulationResult } from "./result.js";
export { verdictOf } from "./verdict.js";
export type { WhyLine, WhyReport } from "./why.js";

/** A plan of any kind. */
export type AnyPlan = BlockPlan | NetPlan;

/** A simulation under way. */
export interface Simulation {
  /** How much of it is done, 0 to 1. */
  readonly progress: number;
  /** Goes on for that many turns of agents; returns whether it is over. */
  runSome(turnsMax: number): boolean;
  /** What came out, once it is over. */
  result(): SimulationResult;
}

export function createSimulation(plan: AnyPlan): Simulation {
  switch (plan.kind) {
    case "nvme":
      return new BlockSimulation(plan);
    case "net":
      return new NetSimulation(plan);
    default:
      return assertNever(plan, "a plan is of a kind that is simulated");
  }
}
