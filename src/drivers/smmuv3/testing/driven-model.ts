/**
 * The driver with the hardware model, for tests of the two together: an SMMU with small
 * queues, one device behind it, and what the driver has reported so far.
 */

import {
  Access,
  createSmmuV3,
  type SmmuV3,
  type SmmuV3Options,
  TranslationStatus,
} from "#hardware/smmuv3";
import type { FaultReport, IommuDevice } from "#iommu";
import type { Cpu, Machine, Routine } from "#machine";
import { Protection } from "#pagetable";
import { createSmmuV3Driver, type SmmuV3Driver, type SmmuV3DriverOptions } from "../driver.js";
import type { SmmuReport } from "../reports.js";

export const BASE = 0x905_0000;
export const PAGE = 4096;
export const READ_WRITE = Protection.read | Protection.write | Protection.cache;
export const nvme: IommuDevice = { name: "nvme0", streamIds: [0x08] };

export interface System {
  readonly machine: Machine;
  readonly smmu: SmmuV3;
  readonly driver: SmmuV3Driver;
  readonly faults: FaultReport[];
  readonly reports: SmmuReport[];
}

/** Interrupts go to the last CPU, so that the first one may wait with interrupts off. */
export function system(
  machine: Machine,
  hardware: Partial<SmmuV3Options> = {},
  software: Partial<SmmuV3DriverOptions> = {},
): System {
  const interruptCpuId = machine.cpus.length - 1;
  const queues = { commandQueueLg2Max: 7, eventQueueLg2Max: 3 };
  const driver = createSmmuV3Driver(machine, {
    base: BASE,
    interruptCpuId,
    ...queues,
    ...software,
  });
  const interrupts = {
    event: driver.eventInterrupt,
    pri: driver.pageRequestInterrupt,
    gerror: driver.globalErrorInterrupt,
    syncEvent: driver.syncEvent,
  };
  const smmu = createSmmuV3(machine, { base: BASE, interrupts, ...hardware });
  const faults: FaultReport[] = [];
  const reports: SmmuReport[] = [];
  driver.onFault((fault) => faults.push(fault));
  driver.onReport((report) => reports.push(report));
  machine.call(0, (cpu) => driver.probe(cpu));
  return { machine, smmu, driver, faults, reports };
}

/** One access by the device's DMA: the physical address, or -1 if it was refused. */
export function* access(agent: Cpu, smmu: SmmuV3, iova: number, kind: number): Routine<number> {
  const transaction = smmu.newTransaction(nvme.streamIds[0]);
  const status = yield* smmu.translate(agent, transaction, iova, kind);
  if (status !== TranslationStatus.ok) return -1;
  smmu.finish(agent, transaction);
  return transaction.physicalAddress;
}

export function read({ machine, smmu }: System, iova: number): number {
  return machine.call(0, (cpu) => access(cpu, smmu, iova, Access.read));
}
