/**
 * `simulate nvme`: fio's jobs on drives behind SMMUs, on the timed machine, in one mode.
 *
 * `BlockSimulation` owns the system that it builds. Everything comes from the plan, its seed
 * included, so the same plan gives the same result wherever it runs.
 */

import { createMessageTarget } from "#hardware/devices";
import { ageIovas } from "../ageing.js";
import { type BlockDevice, startBlockDevice } from "./block-device.js";
import { BlockJobs } from "./block-jobs.js";
import { CpuAccounts } from "./cpu-accounts.js";
import { MeasuredRun } from "./measured-run.js";
import type { BlockPlan } from "./plan.js";
import { Meter, type MeteredDevice } from "./resources.js";
import type { SimulationResult } from "./result.js";
import { MESSAGES_BASE, simulatedSystem } from "./simulated-system.js";
import { Window } from "./window.js";

export class BlockSimulation {
  readonly #devices: readonly BlockDevice[];
  readonly #run: MeasuredRun;

  constructor(plan: BlockPlan) {
    const { system, why } = simulatedSystem(plan);
    const { machine, instances } = system;
    const messages = createMessageTarget(machine, MESSAGES_BASE);
    const accounts = new CpuAccounts(plan.cpus);
    const window = new Window();
    const jobs = new BlockJobs(plan, window);
    const devices = Array.from({ length: plan.devices }, (_, index) => {
      // Neighbours share an SMMU: with two, the first half is on the first.
      const instance = instances[Math.floor((index * instances.length) / plan.devices)];
      const settings = { accounts, onComplete: jobs.completed };
      return startBlockDevice(system, instance, index, plan.profile, messages, settings);
    });
    for (const { dma } of devices) ageIovas(machine, dma, plan.iovaAge);
    machine.call(0, (cpu) => jobs.prepare(cpu, devices));
    this.#devices = devices;
    this.#run = new MeasuredRun({
      plan,
      system,
      window,
      meter: new Meter(system, accounts, devices.map(meteredDevice)),
      why,
      load: (cpu) => jobs.run(cpu),
      inFlight: () => jobs.inFlight,
    });
  }

  get progress(): number {
    return this.#run.progress;
  }

  runSome(turnsMax: number): boolean {
    return this.#run.runSome(turnsMax);
  }

  result(): SimulationResult {
    const queues = this.#devices.flatMap(({ queueOfCpu }) => [...new Set(queueOfCpu)]);
    return this.#run.result(queues.reduce((count, queue) => count + queue.errors, 0));
  }
}

function meteredDevice({ name, dma, model, link }: BlockDevice): MeteredDevice {
  return {
    name,
    dma,
    translationNs: () => model.statistics.translationNs,
    parts: [
      { kind: "media", name, capacity: model.mediaUnits, busyNs: () => model.mediaBusyNs },
      { kind: "controller", name, capacity: 1, busyNs: () => model.statistics.controllerBusyNs },
      { kind: "link", name, capacity: 1, busyNs: () => link.busyNs },
    ],
  };
}
