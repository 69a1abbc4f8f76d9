/** The Arm board `virt` of QEMU with an SMMUv3: where things lie (QEMU: hw/arm/virt.c, base_memmap). */

import type { QemuOptions } from "./qemu-machine.js";

export const VIRT_BOARD = {
  /** The SMMUv3's register pages; it translates for everything on PCI bus 0 and below. */
  smmuBase: 0x0905_0000,
  /** Configuration space of PCI buses 0 to 15 (`highmem=off` keeps it below 4 GiB). */
  ecamBase: 0x3f00_0000,
  ecamBuses: 16,
  /** Where BARs may be placed; inclusive last. */
  pciMemory: { base: 0x1000_0000, last: 0x3efe_ffff },
  ramBase: 0x4000_0000,
} as const;

/** `highmem=off` allows no more RAM than ends at 4 GiB. */
const MEMORY_BYTES = 2 ** 31;
/** The first GiB is for tables, queues and buffers of the stack; the second is the caller's. */
const FRAMES_BYTES = 2 ** 30;

/** What `startQemu` needs for a `virt` board with an SMMUv3 and these devices behind it. */
export function virtBoard(
  devices: readonly string[],
  changes: Partial<QemuOptions> = {},
): QemuOptions {
  const { ramBase } = VIRT_BOARD;
  return {
    target: "aarch64",
    board: "virt,iommu=smmuv3,highmem=off",
    cpuModel: "cortex-a57",
    memoryBytes: MEMORY_BYTES,
    frames: { base: ramBase, last: ramBase + FRAMES_BYTES - 1 },
    devices,
    ...changes,
  };
}
