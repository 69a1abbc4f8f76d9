/** QEMU's `virt` board with our SMMUv3 driver on its SMMUv3 and `edu` devices behind it. */

import { EDU_DEVICE_ID, EDU_VENDOR_ID } from "#drivers/edu";
import { enableBusMaster, enumeratePci, type PciFunction } from "#drivers/pci";
import { createSmmuV3Driver, type SmmuReport, type SmmuV3Driver } from "#drivers/smmuv3";
import type { FaultReport } from "#iommu";
import { type QemuMachine, startQemu, VIRT_BOARD, virtBoard, whyNoQemu } from "#machine/qemu";

/** Undefined when the tests can run; otherwise what to do about it. */
export const missing = whyNoQemu("aarch64");
if (missing !== undefined) console.warn(`QEMU tests skipped: ${missing}`);

/** An `edu` with all its address bits. */
export const EDU = "edu,dma_mask=0xffffffffffffffff";

export interface Rig {
  readonly machine: QemuMachine;
  readonly driver: SmmuV3Driver;
  readonly functions: readonly PciFunction[];
  /** The first edu. */
  readonly edu: PciFunction;
  readonly faults: FaultReport[];
  readonly reports: SmmuReport[];
  /** Takes what is in the event queue, as the interrupt would. */
  takeEvents(): Promise<FaultReport[]>;
  end(): Promise<void>;
}

/** Starts QEMU with these devices, sets PCI up and probes the SMMU. */
export async function startRig(
  devices: readonly string[] = [`${EDU},addr=2.0`],
  options: readonly string[] = [],
): Promise<Rig> {
  const machine = await startQemu(virtBoard(devices, { options, cpus: 2 }));
  try {
    return await setUp(machine);
  } catch (error) {
    await machine.end();
    throw error;
  }
}

async function setUp(machine: QemuMachine): Promise<Rig> {
  const functions = await machine.call(0, function* (cpu) {
    const { ecamBase, pciMemory } = VIRT_BOARD;
    const found = yield* enumeratePci(cpu, { ecamBase, memory: pciMemory });
    for (const of of found) yield* enableBusMaster(cpu, of);
    return found;
  });
  const driver = createSmmuV3Driver(machine, {
    base: VIRT_BOARD.smmuBase,
    // So that the first CPU may wait with interrupts off.
    interruptCpuId: 1,
  });
  const faults: FaultReport[] = [];
  const reports: SmmuReport[] = [];
  driver.onFault((fault) => faults.push(fault));
  driver.onReport((report) => reports.push(report));
  await machine.call(0, (cpu) => driver.probe(cpu));
  const edu = functions.find(
    ({ vendorId, deviceId }) => vendorId === EDU_VENDOR_ID && deviceId === EDU_DEVICE_ID,
  ) as PciFunction;
  return {
    machine,
    driver,
    functions,
    edu,
    faults,
    reports,
    takeEvents: async () => {
      await machine.call(1, (cpu) => driver.eventInterrupt.handler(cpu));
      return faults.splice(0);
    },
    end: () => machine.end(),
  };
}
