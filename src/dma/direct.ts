/**
 * The path of a device that nothing translates for (kernel: kernel/dma/direct.c): the
 * address on the bus is the physical one plus what the bus adds. Memory out of the
 * device's reach would have to be bounced, and fails instead.
 */

import type { Cpu, PhysicalAddress, Routine } from "#machine";
import { cleanForDevice, invalidateForCpu } from "./cache-maintenance.js";
import { Attribute, type DirectionCode, DMA_MAPPING_ERROR } from "./constants.js";
import type { DmaDevice } from "./dma-device.js";

/** The device's address for memory at `paddr`, or `DMA_MAPPING_ERROR` when it cannot reach it. */
export function directAddress(
  device: DmaDevice,
  paddr: PhysicalAddress,
  sizeBytes: number,
): number {
  const dmaAddress = paddr + device.busOffset;
  return isReachable(device, dmaAddress, sizeBytes) ? dmaAddress : DMA_MAPPING_ERROR;
}

/** Whether the device can put out all addresses of a range. */
export function isReachable(device: DmaDevice, dmaAddress: number, sizeBytes: number): boolean {
  const last = dmaAddress + sizeBytes - 1;
  return dmaAddress >= 0 && last <= device.maskLast && last <= device.busLast;
}

export function* syncDirectForDevice(
  cpu: Cpu,
  device: DmaDevice,
  sizeBytes: number,
  attributes: number,
): Routine {
  if (device.coherent || (attributes & Attribute.skipCpuSync) !== 0) return;
  yield* cleanForDevice(cpu, sizeBytes);
}

export function* syncDirectForCpu(
  cpu: Cpu,
  device: DmaDevice,
  sizeBytes: number,
  direction: DirectionCode,
  attributes: number,
): Routine {
  if (device.coherent || (attributes & Attribute.skipCpuSync) !== 0) return;
  yield* invalidateForCpu(cpu, sizeBytes, direction);
}
