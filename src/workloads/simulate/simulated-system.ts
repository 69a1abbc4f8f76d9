/**
 * The machine of a simulation as its plan wants it: CPUs, SMMUs and drivers, and, if where the
 * time goes is asked for, a watch on each CPU.
 */

import { COMMAND_BYTES, getAddress, getField, QUEUE_BASE, Register } from "#arch/smmuv3";
import type { Cpu } from "#machine";
import { createSystem, type SmmuInstance, type System } from "../system.js";
import type { SimulationPlan } from "./plan.js";
import { type NamedMemory, WatchedCpu } from "./watched-cpu.js";
import { WhyAccounts } from "./why.js";

/** The doorbell of interrupt messages: where QEMU's `virt` board has its ITS. */
export const MESSAGES_BASE = 0x0808_0000;

export interface SimulatedSystem {
  readonly system: System;
  /** Undefined unless the plan asks why. */
  readonly why: WhyAccounts | undefined;
}

export function simulatedSystem(plan: SimulationPlan): SimulatedSystem {
  const why = plan.why ? new WhyAccounts() : undefined;
  const memory: NamedMemory[] = [];
  // Half of the nearest transfer is more than any hit, and less than any transfer.
  const transferNsMin = plan.profile.machine.cpu.clusterTransferNs.value / 2;
  const system = createSystem({
    mode: plan.mode,
    cpus: plan.cpus,
    smmus: plan.smmus,
    profile: plan.profile,
    seed: plan.seed,
    ...(plan.sync === undefined ? {} : { syncCompletion: plan.sync }),
    ...(plan.commandQueue === undefined ? {} : { commandQueue: plan.commandQueue }),
    ...(plan.iovaDepot === undefined ? {} : { iovaDepot: plan.iovaDepot }),
    ...(why === undefined
      ? {}
      : { watch: (cpu: Cpu) => new WatchedCpu(cpu, { accounts: why, memory, transferNsMin }) }),
  });
  for (const instance of system.instances) memory.push(ringOf(system, instance));
  return { system, why };
}

/** Where the driver put the command queue. */
export function ringOf({ machine }: System, { smmu }: SmmuInstance): NamedMemory {
  const words = new Uint32Array(2);
  machine.call(0, function* (cpu) {
    words[0] = yield* cpu.readRegister64(smmu.base + Register.CMDQ_BASE);
    words[1] = cpu.hi;
  });
  const first = getAddress(words, 0, QUEUE_BASE.ADDR);
  const sizeBytes = COMMAND_BYTES * 2 ** getField(words, 0, QUEUE_BASE.LOG2SIZE);
  return { first, last: first + sizeBytes - 1, purpose: "queue insertion", name: "commands" };
}
