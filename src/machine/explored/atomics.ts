/**
 * How atomics are ordered with the stores that their CPU still hides: what they wait for, and
 * which events they follow.
 *
 * Under `tso` all of them wait until the buffer is empty. Under `weak` that is so of full and
 * release order; a relaxed atomic waits only for the stores that a store in its place would stay
 * behind, and a compareExchange that fails is a load (kernel: Documentation/atomic_t.txt).
 */

import type { Cell } from "../cell.js";
import type { ExploredAgent } from "./agent.js";
import type { ExploredMachine } from "./machine.js";
import { Op, type Operation } from "./operation.js";
import type { View } from "./view.js";

/** Whether the agent's operation, an atomic, can be performed now. */
export function atomicMayAct(machine: ExploredMachine, agent: ExploredAgent, view: View): boolean {
  const { buffer, operation } = agent;
  if (buffer === undefined || buffer.isEmpty || isLoad(machine, agent, view)) return true;
  if (!buffer.hasRelaxedAtomics || !operation.isRelaxed) return false;
  return buffer.mayPass(locationOf(machine, operation));
}

/** Whether the operation is a compareExchange that fails, and that orders nothing then. */
export function isLoad(machine: ExploredMachine, agent: ExploredAgent, view: View): boolean {
  const { buffer, operation } = agent;
  if (buffer?.hasRelaxedAtomics !== true) return false;
  const { op, cell, address, a, b } = operation;
  if (op === Op.compareExchange) return view.cell(cell as Cell) !== a;
  if (op !== Op.compareExchange64) return false;
  const lo = view.granule(address, machine.locations.ofMemory(address));
  return lo !== a >>> 0 || view.hi !== b >>> 0;
}

/** The agent's atomic follows the stores that it has waited for. */
export function orderAtomic(machine: ExploredMachine, agent: ExploredAgent): void {
  const { buffer, operation } = agent;
  if (buffer === undefined) return;
  const { footprint } = machine;
  if (buffer.hasRelaxedAtomics && operation.isRelaxed) {
    buffer.joinPassed(locationOf(machine, operation), footprint);
  } else buffer.leave(footprint);
}

function locationOf({ locations }: ExploredMachine, { op, cell, address }: Operation): number {
  return op === Op.compareExchange64 ? locations.ofMemory(address) : locations.ofCell(cell as Cell);
}
