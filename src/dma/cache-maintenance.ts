/**
 * Cache maintenance for devices whose accesses do not snoop (kernel: arch_sync_dma_for_cpu()
 * and …_for_device() of arm64). Memory of the machines is coherent, so this is cost and
 * order only: cleaned lines travel to memory, which is charged as copying them.
 */

import { type Cpu, type Routine, Work } from "#machine";
import { Direction, type DirectionCode } from "./constants.js";

const KILOBYTE = 1024;

/** Before the device looks: dirty lines go to memory, whatever the direction. */
export function* cleanForDevice(cpu: Cpu, sizeBytes: number): Routine {
  cpu.work(Work.copyKilobyte, sizeBytes / KILOBYTE);
  yield* cpu.fence("device-write");
}

/** After the device wrote: lines that were fetched meanwhile are dropped. */
export function* invalidateForCpu(cpu: Cpu, sizeBytes: number, direction: DirectionCode): Routine {
  if (direction === Direction.toDevice) return;
  cpu.work(Work.copyKilobyte, sizeBytes / KILOBYTE);
  yield* cpu.fence("full");
}
