/**
 * The run of a system through the window that is measured: opens it, takes a snapshot at both
 * ends, and goes on in slices.
 */

import type { Agent, Cpu, Routine } from "#machine";
import type { System } from "../system.js";
import type { SimulationPlan } from "./plan.js";
import { Ramp } from "./ramp.js";
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
  /** How many are under way of what the window counts. */
  readonly inFlight: () => number;
  /** The window has ended: for loads that have to be woken to see it. */
  readonly onEnd?: (by: Agent) => void;
}

/** What CPUs may have done ahead of the meter when it opens the window. */
const AHEAD_NS = 2000;

export class MeasuredRun {
  readonly #options: MeasuredRunOptions;
  readonly #beganNs: number;
  readonly #ramp: Ramp;
  readonly #snapshots: Snapshot[] = [];
  readonly #inFlight: number[] = [];
  #progress = 0;

  constructor(options: MeasuredRunOptions) {
    const { plan, system, window, load } = options;
    const { machine } = system;
    this.#options = options;
    this.#beganNs = machine.nowNs;
    this.#ramp = new Ramp(machine.nowNs, plan.mode, plan.runtimeNs);
    if (plan.rampNs === undefined) window.begin(this.#ramp);
    else this.#open(machine.nowNs + plan.rampNs);
    machine.addAgent("meter", (agent) => this.#measure(agent));
    for (const { id } of machine.cpus) machine.start(id, load);
  }

  *#measure(agent: Agent): Routine {
    const { window, onEnd } = this.#options;
    if (window.startNs === Number.POSITIVE_INFINITY) {
      do yield* agent.sleepUntil(this.#ramp.nextNs);
      while (!this.#ramp.look());
      this.#open(agent.now() + AHEAD_NS);
    }
    yield* agent.sleepUntil(window.startNs);
    this.#look();
    yield* agent.sleepUntil(window.endNs);
    this.#look();
    onEnd?.(agent);
  }

  #open(startNs: number): void {
    const { plan, window, why } = this.#options;
    window.open(startNs, plan.runtimeNs);
    why?.open(startNs, window.endNs);
  }

  #look(): void {
    const { meter, inFlight } = this.#options;
    this.#snapshots.push(meter.snapshot());
    this.#inFlight.push(inFlight());
  }

  /** How much of it is done, 0 to 1, as far as one can tell while nobody knows the ramp's end. */
  get progress(): number {
    const { plan, system, window } = this.#options;
    const isOpen = window.startNs !== Number.POSITIVE_INFINITY;
    const endNs = isOpen ? window.endNs : this.#ramp.nextNs + plan.runtimeNs;
    const done = (system.machine.nowNs - this.#beganNs) / (endNs - this.#beganNs);
    // A ramp that turns out longer does not take back what was said.
    this.#progress = Math.max(this.#progress, Math.min(1, done));
    return this.#progress;
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
    const drift = this.#inFlight[1] - this.#inFlight[0];
    const rampNs = window.startNs - this.#beganNs;
    return { ...resultOf(plan, window, meter, before, after, errors, why, drift), rampNs };
  }
}
