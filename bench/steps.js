/**
 * What one step costs on the host: an access that happens at once, and one for which the
 * routine is suspended so that another CPU may go first.
 */

import { loneCell, sequentialMachine, timedMachine } from "../dist/machine/index.js";
import { genericArm, machineCosts } from "../dist/platform/index.js";
import { cpuSecondsOf, sampled } from "./measure.js";

const STEPS = 200_000;
const LINE_BYTES = 64;
/** Eight times what a CPU of the profile caches, so that no line is found again. */
const SPAN_BYTES = 4 * 2 ** 20;
/** Routines between the workload and the command queue's poll loop. */
const CALLERS = 8;

const sequential = (cpus) => sequentialMachine({ cpus });
const timed = (cpus) => timedMachine({ cpus, costs: machineCosts(genericArm) });

/** Nanoseconds per step of `body`, on all CPUs at once. */
function prepare(machine, body) {
  const { cpus } = machine;
  const round = () => {
    for (const { id } of cpus) machine.start(id, (cpu) => body(cpu, STEPS / cpus.length));
    machine.run();
  };
  return () => (cpuSecondsOf(round) * 1e9) / STEPS;
}

function loads() {
  const cell = loneCell("private");
  return function* (cpu, steps) {
    let sum = 0;
    for (let n = 0; n < steps; n++) sum += yield* cpu.load(cell);
    if (sum !== 0) throw new Error("nobody stored to the cell");
  };
}

function* reads(cpu, steps) {
  for (let at = 0; at < SPAN_BYTES; at += LINE_BYTES) yield* cpu.write64(at, 1, 0);
  let sum = 0;
  for (let n = 0; n < steps; n++) sum += yield* cpu.read64((n * LINE_BYTES) % SPAN_BYTES);
  if (sum !== steps) throw new Error("every line holds a 1");
}

function* writes(cpu, steps) {
  for (let n = 0; n < steps; n++) yield* cpu.write64(0, n, 0);
}

function additions() {
  const cell = loneCell("shared");
  return function* (cpu, steps) {
    for (let n = 0; n < steps; n++) yield* cpu.fetchAdd(cell, 1);
  };
}

function* under(callers, cpu, steps, body) {
  if (callers === 0) yield* body(cpu, steps);
  else yield* under(callers - 1, cpu, steps, body);
}

const rows = [
  ["sequential, load", () => prepare(sequential(1), loads())],
  ["timed, load that hits", () => prepare(timed(1), loads())],
  ["timed, fetchAdd that hits", () => prepare(timed(1), additions())],
  ["timed, write64 that hits", () => prepare(timed(1), writes)],
  ["timed, read64 that misses", () => prepare(timed(1), reads)],
  ["timed, fetchAdd that suspends (2 CPUs)", () => prepare(timed(2), additions())],
  [
    `timed, the same under ${CALLERS} callers`,
    () => {
      const body = additions();
      return prepare(timed(2), (cpu, steps) => under(CALLERS, cpu, steps, body));
    },
  ],
];

export const title = "Steps";
export const cases = rows.map(([name, make]) => sampled({ name, unit: "ns/step", prepare: make }));
