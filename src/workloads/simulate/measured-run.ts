/**
 * The run of a system through the window that is measured: opens it, takes a snapshot at both
 * ends, and goes on in slices.
 */

import type { Agent, Cpu, Routine } from "#machine";
import type { System } from "../system.js";
import type { SimulationPlan } from "./plan.js";
import type { Meter, Snapshot } from "./resources.js";
import { resultOf, type SimulationResult } from "./result.js";
import type { WhyAccounts } from "./why.js";
import type { Window } from "./window.js";

export interface MeasuredRunOptions {
  readonly plan: SimulationPlan;
  readonly system: System;
  readonly window: Window;
  readonly meter: Meter;
  readonly why: WhyAccounts | undefined;
  /** What every CPU does; ends when the window has. */
  readonly load: (cpu: Cpu) => Routine;
  /** The window has ended: for loads that have to be woken to see it. */
  readonly onEnd?: (by: Agent) => void;
}

export class MeasuredRun {
  readonly #options: MeasuredRunOptions;
  readonly #beganNs: number;
  readonly #snapshots: Snapshot[] = [];

  constructor(options: MeasuredRunOptions) {
    const { plan, system, window, meter, why, load, onEnd } = options;
    const { machine } = system;
    this.#options = options;
    this.#beganNs = machine.nowNs;
    window.open(machine.nowNs + plan.rampNs, plan.runtimeNs);
    const { startNs, endNs } = window;
    why?.open(startNs, endNs);
    const snapshots = this.#snapshots;
    machine.addAgent("meter", function* (agent) {
      yield* agent.sleepUntil(startNs);
      snapshots.push(meter.snapshot());
      yield* agent.sleepUntil(endNs);
      snapshots.push(meter.snapshot());
      onEnd?.(agent);
    });
    for (const { id } of machine.cpus) machine.start(id, load);
  }

  /** How much of it is done, 0 to 1. */
  get progress(): number {
    const { plan, system } = this.#options;
    return Math.min(1, (system.machine.nowNs - this.#beganNs) / (plan.rampNs + plan.runtimeNs));
  }

  /** Goes on for that many turns of agents; returns whether it is over. */
  runSome(turnsMax: number): boolean {
    const { machine } = this.#options.system;
    if (!machine.runSome(turnsMax)) return false;
    // A CPU may end its last piece of work a little before the meter looks.
    if (this.#snapshots.length < 2) machine.advance(this.#options.window.endNs);
    return true;
  }

  /** What came out, once it is over. */
  result(errors: number): SimulationResult {
    const { plan, window, meter, why } = this.#options;
    const [before, after] = this.#snapshots;
    return resultOf(plan, window, meter, before, after, errors, why);
  }
}
