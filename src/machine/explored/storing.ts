/**
 * A CPU's stores on their way into its buffer: what an operation becomes there. It is an event
 * of its own that touches nothing: nobody else notices it, but an interrupt of this CPU may come
 * before or after it, and what the CPU does next without an operation stays behind it.
 */

import type { Cell } from "../cell.js";
import type { ExploredAgent } from "./agent.js";
import type { ExploredMachine } from "./machine.js";
import { Op, type Operation } from "./operation.js";
import { type BufferedStore, Half, Target } from "./store-buffer.js";
import type { View } from "./view.js";

/** Whether the agent's operation is a store that its CPU does not wait for. */
export function isBuffered({ buffer, operation }: ExploredAgent): boolean {
  if (buffer === undefined) return false;
  const { op, sizeBytes } = operation;
  return op === Op.store || op === Op.writeRegister || (op === Op.write && sizeBytes >= 4);
}

/** Puts the agent's operation, a store that `isBuffered`, into the buffer. */
export function bufferStore(machine: ExploredMachine, agent: ExploredAgent, view: View): void {
  const { operation } = agent;
  const { op, cell, a } = operation;
  const buffer = agent.buffer as NonNullable<ExploredAgent["buffer"]>;
  const isRelease = op === Op.store && operation.b === 1;
  const store = buffer.add(locationOf(machine, operation), isRelease, machine.currentEvent);
  if (op === Op.store) {
    store.target = Target.cell;
    store.cell = cell;
    store.lo = a;
    store.hi = 0;
  } else if (op === Op.write) fillMemoryStore(store, operation);
  else fillRegisterStore(store, operation);
  view.glance(store.location, true, 0, store.lo, store.hi, op === Op.store ? cell : undefined);
}

function locationOf(machine: ExploredMachine, { op, cell, address }: Operation): number {
  const { locations } = machine;
  if (op === Op.store) return locations.ofCell(cell as Cell);
  if (op === Op.write) return locations.ofMemory(address);
  return locations.ofThing(machine.deviceAt(address));
}

function fillMemoryStore(store: BufferedStore, { address, sizeBytes, a, b }: Operation): void {
  store.target = Target.memory;
  store.address = address;
  store.sizeBytes = sizeBytes;
  const isHigh = sizeBytes === 4 && (address & 4) !== 0;
  store.halves = sizeBytes === 8 ? Half.both : isHigh ? Half.hi : Half.lo;
  store.lo = (isHigh ? 0 : a) >>> 0;
  store.hi = (isHigh ? a : b) >>> 0;
}

function fillRegisterStore(store: BufferedStore, { address, sizeBytes, a, b }: Operation): void {
  store.target = Target.register;
  store.address = address;
  store.sizeBytes = sizeBytes;
  store.lo = a;
  store.hi = b;
}
