/**
 * Handing a streaming buffer back and forth between CPU and device while it stays mapped
 * (kernel: dma_sync_single_for_cpu() and its siblings). For a coherent device nothing has
 * to be done, as nothing here is bounced.
 */

import { assert, type Cpu, hex, type Routine, Work } from "#machine";
import { cleanForDevice, invalidateForCpu } from "./cache-maintenance.js";
import type { DirectionCode } from "./constants.js";
import type { DmaDevice } from "./dma-device.js";
import type { ScatterList } from "./scatter-list.js";

/** The CPU may look at what the device wrote. */
export function* syncSingleForCpu(
  cpu: Cpu,
  device: DmaDevice,
  dmaAddress: number,
  sizeBytes: number,
  direction: DirectionCode,
): Routine {
  cpu.work(Work.dmaCall);
  if (device.coherent) return;
  yield* findBuffer(cpu, device, dmaAddress);
  yield* invalidateForCpu(cpu, sizeBytes, direction);
}

/** The device gets the buffer back, with what the CPU wrote. */
export function* syncSingleForDevice(
  cpu: Cpu,
  device: DmaDevice,
  dmaAddress: number,
  sizeBytes: number,
  _direction: DirectionCode,
): Routine {
  cpu.work(Work.dmaCall);
  if (device.coherent) return;
  yield* findBuffer(cpu, device, dmaAddress);
  yield* cleanForDevice(cpu, sizeBytes);
}

export function* syncSgForCpu(
  cpu: Cpu,
  device: DmaDevice,
  list: ScatterList,
  direction: DirectionCode,
): Routine {
  cpu.work(Work.dmaCall);
  if (device.coherent) return;
  for (const element of list.elements) yield* invalidateForCpu(cpu, element.sizeBytes, direction);
}

export function* syncSgForDevice(
  cpu: Cpu,
  device: DmaDevice,
  list: ScatterList,
  _direction: DirectionCode,
): Routine {
  cpu.work(Work.dmaCall);
  if (device.coherent) return;
  for (const element of list.elements) yield* cleanForDevice(cpu, element.sizeBytes);
}

/** Maintenance is by memory address: through an IOMMU that takes a walk of its table. */
function* findBuffer(cpu: Cpu, device: DmaDevice, dmaAddress: number): Routine {
  if (device.dma === undefined) return;
  const paddr = yield* device.dma.domain.iovaToPhys(cpu, dmaAddress);
  assert(paddr !== -1, `a buffer that is synced is mapped: ${hex(dmaAddress)}`);
}
