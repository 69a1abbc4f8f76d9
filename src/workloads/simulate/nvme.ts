/**
 * `simulate nvme`: fio's jobs on drives behind SMMUs, on the timed machine, in one mode.
 *
 * `BlockSimulation` owns the system that it builds. Everything comes from the plan, its seed
 * included, so the same plan gives the same result wherever it runs.
 */

import { createMessageTarget } from "#hardware/devices";
import type { System } from "../system.js";
import { type BlockDevice, startBlockDevice } from "./block-device.js";
import { BlockJobs } from "./block-jobs.js";
import { CpuAccounts } from "./cpu-accounts.js";
import type { BlockPlan } from "./plan.js";
import { Meter, type MeteredDevice, type Snapshot } from "./resources.js";
import { resultOf, type SimulationResult } from "./result.js";
import { simulatedSystem } from "./simulated-system.js";
import type { WhyAccounts } from "./why.js";
import { Window } from "./window.js";

/** The doorbell of interrupt messages: where QEMU's `virt` board has its ITS. */
const MESSAGES_BASE = 0x0808_0000;

export class BlockSimulation {
  readonly #plan: BlockPlan;
  readonly #system: System;
  readonly #devices: readonly BlockDevice[];
  readonly #window = new Window();
  readonly #meter: Meter;
  readonly #snapshots: Snapshot[] = [];
  readonly #why: WhyAccounts | undefined;

  constructor(plan: BlockPlan) {
    this.#plan = plan;
    const { system, why } = simulatedSystem(plan);
    this.#system = system;
    this.#why = why;
    const { machine, instances } = this.#system;
    const messages = createMessageTarget(machine, MESSAGES_BASE);
    const accounts = new CpuAccounts(plan.cpus);
    const jobs = new BlockJobs(plan, this.#window);
    this.#devices = Array.from({ length: plan.devices }, (_, index) => {
      // Neighbours share an SMMU: with two, the first half is on the first.
      const instance = instances[Math.floor((index * instances.length) / plan.devices)];
      const settings = { accounts, onComplete: jobs.completed };
      return startBlockDevice(this.#system, instance, index, plan.profile, messages, settings);
    });
    this.#meter = new Meter(this.#system, accounts, this.#devices.map(meteredDevice));
    machine.call(0, (cpu) => jobs.prepare(cpu, this.#devices));
    this.#window.open(machine.nowNs + plan.rampNs, plan.runtimeNs);
    const { startNs, endNs } = this.#window;
    why?.open(startNs, endNs);
    const { snapshots, meter } = { snapshots: this.#snapshots, meter: this.#meter };
    machine.addAgent("meter", function* (agent) {
      yield* agent.sleepUntil(startNs);
      snapshots.push(meter.snapshot());
      yield* agent.sleepUntil(endNs);
      snapshots.push(meter.snapshot());
    });
    for (const { id } of machine.cpus) machine.start(id, (cpu) => jobs.run(cpu));
  }

  /** How much of the simulation is done, 0 to 1. */
  get progress(): number {
    const beganNs = this.#window.startNs - this.#plan.rampNs;
    const wholeNs = this.#plan.rampNs + this.#plan.runtimeNs;
    return Math.min(1, (this.#system.machine.nowNs - beganNs) / wholeNs);
  }

  /** Goes on for that many turns of agents; returns whether it is over. */
  runSome(turnsMax: number): boolean {
    return this.#system.machine.runSome(turnsMax);
  }

  /** What came out, once it is over. */
  result(): SimulationResult {
    const [before, after] = this.#snapshots;
    const errors = this.#devices
      .flatMap(({ queueOfCpu }) => [...new Set(queueOfCpu)])
      .reduce((count, queue) => count + queue.errors, 0);
    return resultOf(this.#plan, this.#window, this.#meter, before, after, errors, this.#why);
  }
}

function meteredDevice({ name, model, link }: BlockDevice): MeteredDevice {
  return {
    name,
    translationNs: () => model.statistics.translationNs,
    parts: [
      { kind: "media", name, capacity: model.mediaUnits, busyNs: () => model.mediaBusyNs },
      { kind: "controller", name, capacity: 1, busyNs: () => model.statistics.controllerBusyNs },
      { kind: "link", name, capacity: 1, busyNs: () => link.busyNs },
    ],
  };
}
