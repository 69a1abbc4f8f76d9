/** SMMU models that can do everything, with drivers that share their domains. */

import {
  Access,
  createSmmuV3,
  FULL_CAPABILITIES,
  type SmmuV3,
  TranslationStatus,
} from "#hardware/smmuv3";
import type { Agent, Machine, Routine } from "#machine";
import { createSmmuV3Driver, type SmmuV3Driver } from "../driver.js";
import type { SmmuReport } from "../reports.js";
import { type MultiInstance, SmmuShared } from "../shared.js";

export interface Instance {
  readonly smmu: SmmuV3;
  readonly driver: SmmuV3Driver;
}

export interface ModelSystem {
  readonly machine: Machine;
  readonly shared: SmmuShared;
  readonly instances: readonly Instance[];
  readonly reports: SmmuReport[];
}

/** Interrupts go to the last CPU, so that the first one may wait with interrupts off. */
export function modelSystem(
  machine: Machine,
  count: number,
  multiInstance: MultiInstance = "concurrent",
  hypervisorHost = false,
): ModelSystem {
  const shared = new SmmuShared({ cpuCount: machine.cpus.length, multiInstance });
  const reports: SmmuReport[] = [];
  const interruptCpuId = machine.cpus.length - 1;
  const instances = Array.from({ length: count }, (_, index) => {
    const base = 0x905_0000 + index * 0x10_0000;
    const name = `smmu${index}`;
    const driver = createSmmuV3Driver(machine, {
      ...{ base, name, interruptCpuId, shared, hypervisorHost },
      ...{ commandQueueLg2Max: 7, eventQueueLg2Max: 3 },
    });
    const interrupts = { event: driver.eventInterrupt, gerror: driver.globalErrorInterrupt };
    const capabilities = { ...FULL_CAPABILITIES, ats: true };
    const smmu = createSmmuV3(machine, { base, name, interrupts, capabilities });
    driver.onReport((report) => reports.push(report));
    machine.call(0, (cpu) => driver.probe(cpu));
    return { smmu, driver };
  });
  return { machine, shared, instances, reports };
}

/** One access by a device's DMA: the physical address, or -1 if it was refused. */
export function* access(
  agent: Agent,
  smmu: SmmuV3,
  streamId: number,
  iova: number,
  pasid = -1,
): Routine<number> {
  const transaction = smmu.newTransaction(streamId, pasid);
  const status = yield* smmu.translate(agent, transaction, iova, Access.read);
  if (status !== TranslationStatus.ok) return -1;
  smmu.finish(agent, transaction);
  return transaction.physicalAddress;
}
