/**
 * Setting devices up for the DMA API and taking them down again (kernel:
 * iommu_setup_dma_ops(), iommu_dma_init_domain()).
 *
 * A `DmaGroup` owns its devices, the core's group and the `DmaDomain` that belongs to the
 * group's default domain.
 */

import {
  createGroup,
  type DefaultDomainType,
  destroyGroup,
  type IommuDriver,
  isKeptFromAllocator,
  type ReservedRegion,
  unuseDefaultDomain,
  useDefaultDomain,
} from "#iommu";
import { IovaDomain } from "#iova";
import { assert, type Cpu, type Machine, type Routine, type StreamId } from "#machine";
import {
  type DmaDevice,
  type DmaGroup,
  type IovaAllocatorMaker,
  lastOfMask,
  updateSearchLimits,
} from "./dma-device.js";
import { DmaDomain } from "./dma-domain.js";
import type { FlushQueueKind } from "./flush-queue.js";
import { startLazyMode, stopLazyMode } from "./lazy-mode.js";
import { noteHardwareDoorbells } from "./msi.js";

export interface DmaDeviceOptions {
  readonly name: string;
  readonly streamIds: readonly StreamId[];
  /** Whether the device's accesses snoop the CPU caches. */
  readonly coherent: boolean;
  /** Bits of address that the driver declared; a driver that says nothing has 32. */
  readonly maskBits?: number;
  /** A PCI device is given addresses below 4 GiB first, unless `forceDac`. */
  readonly pci?: boolean;
  /** iommu.forcedac=1 */
  readonly forceDac?: boolean;
  readonly untrusted?: boolean;
  readonly busOffset?: number;
  /** Last address that passes the bus, when that is less than the mask allows. */
  readonly busLast?: number;
  readonly cacheAlignmentBytes?: number;
  readonly maxSegmentBytes?: number;
  readonly segmentBoundaryBytes?: number;
}

export interface DmaSystemOptions {
  readonly machine: Pick<Machine, "cpus" | "frames">;
  /** Undefined where nothing translates. */
  readonly iommu: IommuDriver | undefined;
  /** What the system wants; an untrusted device gets `DMA` all the same. */
  readonly domainType: DefaultDomainType;
  readonly groupId?: number;
  readonly reservedRegions?: readonly ReservedRegion[];
  readonly flushQueue?: FlushQueueKind;
  /** Makes the allocator of a domain's addresses; by default the tree with magazines. */
  readonly iovaAllocator?: IovaAllocatorMaker;
}

/** What dma_get_max_seg_size() assumes of a device that says nothing. */
const MAX_SEGMENT_BYTES = 65536;
/** Cache writeback granule of most Arm cores. */
const CACHE_ALIGNMENT_BYTES = 64;
const MASK_BITS = 32;

/** Sets up a device that is a group of its own, with a driver bound to it. */
export function* setupDmaDevice(
  cpu: Cpu,
  options: DmaSystemOptions & DmaDeviceOptions,
): Routine<DmaDevice> {
  const [device] = yield* setupDmaDevices(cpu, options, [options]);
  return device;
}

/** Sets up the devices of one group, with a driver bound to each. */
export function* setupDmaDevices(
  cpu: Cpu,
  system: DmaSystemOptions,
  options: readonly DmaDeviceOptions[],
): Routine<readonly DmaDevice[]> {
  assert(options.length > 0, "a group has devices");
  const { machine, iommu, reservedRegions = [], groupId = 0 } = system;
  const devices = options.map((option) => describeDevice(machine, option));
  if (iommu === undefined) return devices;
  const group = yield* createGroup(cpu, iommu, {
    id: groupId,
    devices: devices.map((device) => device.iommuDevice),
    reservedRegions,
    defaultType: {
      wanted: system.domainType,
      untrusted: devices.some((device) => device.untrusted),
    },
  });
  const dmaGroup: DmaGroup = {
    group,
    devices,
    cpuCount: machine.cpus.length,
    flushQueueKind: system.flushQueue ?? "per-CPU",
    makeIovas: system.iovaAllocator ?? ((domainOptions) => new IovaDomain(domainOptions)),
    dma: undefined,
  };
  yield* adoptDomain(cpu, dmaGroup);
  for (const device of devices) {
    device.group = dmaGroup;
    bindDriver(device);
  }
  return devices;
}

/** Takes a group of devices down; everything was unmapped before, or is lost. */
export function* destroyDmaGroup(cpu: Cpu, dmaGroup: DmaGroup): Routine {
  for (const device of dmaGroup.devices) if (device.driverBound) unbindDriver(device);
  const { dma } = dmaGroup;
  yield* destroyGroup(cpu, dmaGroup.group, (on) => endDmaDomain(on, dma));
}

/** Ends what the DMA API keeps for a domain that no device is attached to any more. */
export function* endDmaDomain(cpu: Cpu, dma: DmaDomain | undefined): Routine {
  if (dma === undefined) return;
  yield* stopLazyMode(cpu, dma);
  yield* dma.iovas.destroy(cpu);
}

/** A driver starts to use the device. */
export function bindDriver(device: DmaDevice): void {
  assert(!device.driverBound, "a device has one driver");
  const { group } = device;
  const free = group === undefined || useDefaultDomain(group.group);
  assert(free, "a group that has an owner is not for drivers");
  device.driverBound = true;
}

export function unbindDriver(device: DmaDevice): void {
  assert(device.driverBound, "a driver that goes was there");
  if (device.group !== undefined) unuseDefaultDomain(device.group.group);
  device.driverBound = false;
}

/** Builds what the DMA API needs on top of the group's default domain. */
export function* adoptDomain(cpu: Cpu, dmaGroup: DmaGroup): Routine {
  const { group, devices } = dmaGroup;
  const dma = yield* makeDmaDomain(cpu, dmaGroup);
  dmaGroup.dma = dma;
  if (dma !== undefined && group.type === "DMA-FQ") yield* startLazyMode(cpu, dmaGroup, dma);
  for (const device of devices) {
    device.dma = dma;
    updateSearchLimits(device);
  }
}

function* makeDmaDomain(cpu: Cpu, dmaGroup: DmaGroup): Routine<DmaDomain | undefined> {
  const { group, cpuCount } = dmaGroup;
  const domain = group.defaultDomain;
  if (domain.kind !== "paging") return undefined;
  const granuleBytes = domain.pageSizesBytes[0];
  const startPfn = Math.max(1, Math.ceil(domain.aperture.first / granuleBytes));
  const iovas = dmaGroup.makeIovas({ granuleBytes, startPfn, cpuCount });
  const dma = new DmaDomain(domain, iovas);
  for (const region of group.reservedRegions) {
    if (!isKeptFromAllocator(region)) continue;
    const firstPfn = Math.floor(region.first / granuleBytes);
    const lastPfn = Math.floor(region.last / granuleBytes);
    yield* iovas.reserve(cpu, firstPfn, lastPfn);
    if (region.kind === "msi") noteHardwareDoorbells(dma, firstPfn, lastPfn);
  }
  return dma;
}

function describeDevice(
  machine: DmaSystemOptions["machine"],
  options: DmaDeviceOptions,
): DmaDevice {
  const { name, streamIds, coherent, pci = true, forceDac = false } = options;
  const maskLast = lastOfMask(options.maskBits ?? MASK_BITS);
  return {
    name,
    iommuDevice: { name, streamIds },
    group: undefined,
    frames: machine.frames,
    coherent,
    untrusted: options.untrusted ?? false,
    cacheAlignmentBytes: options.cacheAlignmentBytes ?? CACHE_ALIGNMENT_BYTES,
    maxSegmentBytes: options.maxSegmentBytes ?? MAX_SEGMENT_BYTES,
    segmentBoundaryBytes: options.segmentBoundaryBytes ?? Number.POSITIVE_INFINITY,
    busOffset: options.busOffset ?? 0,
    busLast: options.busLast ?? Number.MAX_SAFE_INTEGER,
    maskLast,
    coherentMaskLast: maskLast,
    prefers32Bit: pci && !forceDac,
    driverBound: false,
    dma: undefined,
    limitPfn: 0,
    firstLimitPfn: 0,
    firstFlags: 0,
  };
}
