/** One device behind a fake IOMMU on a machine, and short ways to call the API in tests. */

import { type Machine, sequentialMachine } from "#machine";
import type { DmaDevice } from "../dma-device.js";
import { type DmaDeviceOptions, type DmaSystemOptions, setupDmaDevice } from "../setup.js";
import { FakeIommu } from "./fake-iommu.js";

export interface Rig {
  readonly machine: Machine;
  readonly iommu: FakeIommu;
  readonly device: DmaDevice;
}

export type RigOptions = Partial<DmaSystemOptions & DmaDeviceOptions>;

export function rig(
  options: RigOptions = {},
  machine: Machine = sequentialMachine({ cpus: 2 }),
  iommu: FakeIommu = new FakeIommu(),
): Rig {
  const device = machine.call(0, (cpu) =>
    setupDmaDevice(cpu, {
      machine,
      iommu,
      domainType: "DMA",
      name: "disk",
      streamIds: [8],
      coherent: true,
      maskBits: 64,
      ...options,
    }),
  );
  return { machine, iommu, device };
}
