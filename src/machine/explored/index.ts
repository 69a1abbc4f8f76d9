/** The explored machine: who goes next, and when a store becomes visible, is chosen from outside. */

export type { ExploredAgent } from "./agent.js";
export { type Chooser, inTurn } from "./chooser.js";
export type { Footprint } from "./footprint.js";
export { Wait } from "./footprint.js";
export { type ExploredMachine, type ExploredOptions, exploredMachine } from "./machine.js";
export { OP_NAMES } from "./operation.js";
export { PROCESSES_MAX, type Process, ProcessKind } from "./processes.js";
export { ANY_REGISTER, type MemoryModel } from "./store-buffer.js";
