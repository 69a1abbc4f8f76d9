/**
 * A whole system in a few lines: a machine, an SMMUv3, its driver, and devices whose DMA
 * goes through the DMA API. The easy face of the stack; its parts stay reachable for those
 * who want more.
 */

import { OPCODE_COUNT, opcodeName } from "#arch/smmuv3";
import {
  Direction,
  type DirectionCode,
  DMA_MAPPING_ERROR,
  type DmaDevice,
  type IovaAllocatorMaker,
  mapPage,
  setupDmaDevice,
  unmapPage,
} from "#dma";
import {
  type CommandQueueKind,
  createSmmuV3Driver,
  type InvalidationScheme,
  SmmuShared,
  type SmmuV3Driver,
  type SyncCompletion,
} from "#drivers/smmuv3";
import {
  createDmaDevice,
  type DmaDevice as DmaHardware,
  type DmaResult,
  deviceRead,
  deviceWrite,
} from "#hardware/devices";
import { createSmmuV3, type SmmuV3 } from "#hardware/smmuv3";
import { type DepotPolicy, IovaDomain } from "#iova";
import {
  type Cpu,
  type CpuWatch,
  type Iova,
  type PhysicalAddress,
  type SequentialMachineFace,
  type StreamId,
  sequentialMachine,
  type TimedMachineFace,
  timedMachine,
} from "#machine";
import { machineCosts, type Profile, smmuCosts } from "#platform";
import { CommandOrigins } from "./command-origins.js";
import { DOMAIN_TYPE, type Mode } from "./mode.js";

/** Where the SMMU's registers lie: any place outside of RAM; this is QEMU's `virt` machine's. */
const SMMU_BASE = 0x0905_0000;
/** From one SMMU's registers to the next one's. */
const SMMU_STRIDE = 0x10_0000;

export type DirectionName = keyof typeof Direction;

/** Sees a command as the SMMU consumes it; `words` is reused for the next one. */
export type CommandListener = (words: Uint32Array, atNs: number, cpuId: number) => void;

export interface SystemOptions {
  /** `strict` by default. */
  readonly mode?: Mode;
  readonly cpus?: number;
  /** SMMU instances, each with devices of its own; 1 where not given. */
  readonly smmus?: number;
  /** With a profile the machine is timed, without one sequential. */
  readonly profile?: Profile;
  readonly seed?: number;
  readonly onCommand?: CommandListener;
  /** The kernel's lock-less queue where not given. */
  readonly commandQueue?: CommandQueueKind;
  /** How domains know what to invalidate: `array` where not given, as kernels since 2026. */
  readonly invalidation?: InvalidationScheme;
  /**
   * How CPUs wait for a CMD_SYNC; where not given as the profile says, or by polling. With `msi`
   * the SMMU has MSIs.
   */
  readonly syncCompletion?: SyncCompletion;
  /** Sees where the CPUs' time goes; timed machines only. */
  readonly watch?: (cpu: Cpu) => CpuWatch;
  /** Makes the allocator of each device's addresses; by default the tree with magazines. */
  readonly iovaAllocator?: IovaAllocatorMaker;
  /** What that tree's depot does with full magazines; where not given, as kernels since 6.7. */
  readonly iovaDepot?: DepotPolicy;
}

/** What the hardware has counted so far. */
export interface SystemCounters {
  /** Commands consumed, by name as `CMD_TLBI_NH_VA`. */
  readonly commands: Readonly<Record<string, number>>;
  readonly iotlbHits: number;
  readonly iotlbMisses: number;
}

/** What a device read: all of it, or what came before the access that was aborted. */
export interface ReadResult {
  readonly data: Uint8Array;
  readonly abort: DmaResult;
}

export interface SystemDevice {
  readonly name: string;
  /** The device as the DMA API sees it. */
  readonly dma: DmaDevice;
  /** The device itself. */
  readonly hardware: DmaHardware;
  /** Maps memory for the device and returns the address that the device is to use. */
  map(paddr: PhysicalAddress, sizeBytes: number, direction: DirectionName): Iova;
  unmap(iova: Iova, sizeBytes: number, direction: DirectionName): void;
  /** Lets the device read memory at a bus address. */
  read(iova: Iova, sizeBytes: number): ReadResult;
  write(iova: Iova, data: Uint8Array): DmaResult;
}

/** An SMMU and the driver that runs it. */
export interface SmmuInstance {
  readonly smmu: SmmuV3;
  readonly driver: SmmuV3Driver;
}

export interface System extends SmmuInstance {
  readonly mode: Mode;
  readonly machine: SequentialMachineFace | TimedMachineFace;
  /** The first of them is also `smmu` and `driver`. */
  readonly instances: readonly SmmuInstance[];
  /** Adds a device behind an SMMU, in the domain type of the system's mode. */
  addDevice(name: string, streamId?: StreamId, instance?: SmmuInstance): SystemDevice;
  /** Zeroed memory for a buffer. */
  allocate(sizeBytes: number): PhysicalAddress;
  counters(): SystemCounters;
}

export function createSystem(options: SystemOptions = {}): System {
  const mode = options.mode ?? "strict";
  const machine = createMachine(options);
  const instances = Array.from({ length: options.smmus ?? 1 }, (_, index) =>
    createInstance(machine, options, SMMU_BASE + index * SMMU_STRIDE),
  );
  const [first] = instances;
  let streamIds = 0;
  return {
    mode,
    machine,
    ...first,
    instances,
    addDevice: (name, streamId = ++streamIds, instance = first) =>
      addDevice({ machine, mode, ...instance }, name, streamId, options),
    allocate: (sizeBytes) => machine.call(0, (cpu) => machine.frames.allocate(cpu, sizeBytes)),
    counters: () => counters(instances),
  };
}

/** An SMMU with its registers at `base`, probed. */
function createInstance(
  machine: System["machine"],
  options: SystemOptions,
  base: PhysicalAddress,
): SmmuInstance {
  const origins = new CommandOrigins();
  const { onCommand, profile, commandQueue, invalidation } = options;
  const hasMsi = profile?.system.syncByMsi.value === 1;
  const syncCompletion = options.syncCompletion ?? (hasMsi ? "msi" : "poll");
  const driver = createSmmuV3Driver(machine, {
    base,
    onIssue: origins.issued,
    syncCompletion,
    ...(commandQueue === undefined ? {} : { commandQueue }),
    ...(invalidation === undefined
      ? {}
      : { shared: new SmmuShared({ cpuCount: machine.cpus.length, invalidation }) }),
  });
  const smmu = createSmmuV3(machine, {
    base,
    interrupts: {
      event: driver.eventInterrupt,
      pri: driver.pageRequestInterrupt,
      gerror: driver.globalErrorInterrupt,
      syncEvent: driver.syncEvent,
    },
    capabilities: { msi: syncCompletion === "msi", sev: syncCompletion === "event" },
    ...(profile === undefined ? {} : { timing: smmuCosts(profile) }),
    ...(onCommand === undefined
      ? {}
      : { onCommand: (words, atNs) => onCommand(words, atNs, origins.take()) }),
  });
  machine.call(0, (cpu) => driver.probe(cpu));
  return { smmu, driver };
}

/** Memory's frames lie at 1 TiB and above, so that captured addresses below stay free. */
function createMachine(options: SystemOptions): System["machine"] {
  const cpus = options.cpus ?? 1;
  const seed = options.seed ?? 1;
  const { profile } = options;
  if (profile === undefined) return sequentialMachine({ cpus, seed });
  const { watch } = options;
  const watching = watch === undefined ? {} : { watch };
  return timedMachine({ cpus, seed, costs: machineCosts(profile), ...watching });
}

function addDevice(
  parts: Pick<System, "machine" | "smmu" | "driver" | "mode">,
  name: string,
  streamId: StreamId,
  options: SystemOptions,
): SystemDevice {
  const { machine, smmu, driver } = parts;
  const { iovaDepot: depot } = options;
  const iovaAllocator =
    options.iovaAllocator ??
    (depot === undefined ? undefined : (own) => new IovaDomain({ ...own, depot }));
  const hardware = createDmaDevice({ name, streamId, iommu: smmu });
  const dma = machine.call(0, (cpu) =>
    setupDmaDevice(cpu, {
      name,
      machine,
      iommu: driver,
      streamIds: [streamId],
      groupId: streamId,
      domainType: DOMAIN_TYPE[parts.mode],
      maskBits: 64,
      coherent: true,
      ...(iovaAllocator === undefined ? {} : { iovaAllocator }),
    }),
  );
  return {
    name,
    dma,
    hardware,
    map(paddr, sizeBytes, direction) {
      const code: DirectionCode = Direction[direction];
      const iova = machine.call(0, (cpu) => mapPage(cpu, dma, paddr, sizeBytes, code));
      if (iova === DMA_MAPPING_ERROR) throw new MappingError(name, paddr, sizeBytes);
      return iova;
    },
    unmap(iova, sizeBytes, direction) {
      machine.call(0, (cpu) => unmapPage(cpu, dma, iova, sizeBytes, Direction[direction]));
    },
    read(iova, sizeBytes) {
      const data = new Uint8Array(sizeBytes);
      const abort = deviceRead(machine, hardware, iova, data);
      return { data: data.subarray(0, abort?.movedBytes ?? sizeBytes), abort };
    },
    write: (iova, data) => deviceWrite(machine, hardware, iova, data),
  };
}

/** The DMA API refused a mapping. */
export class MappingError extends Error {
  override readonly name = "MappingError";
  readonly code = "MAPPING_FAILED";

  constructor(device: string, paddr: PhysicalAddress, sizeBytes: number) {
    super(
      `${device} got no mapping of ${sizeBytes} bytes at 0x${paddr.toString(16)}: ` +
        "its mask leaves no free address, or it is mapped already; unmap something first",
    );
  }
}

/** Of all instances together. */
function counters(instances: readonly SmmuInstance[]): SystemCounters {
  const commands: Record<string, number> = {};
  let iotlbHits = 0;
  let iotlbMisses = 0;
  for (const { smmu } of instances) {
    const { statistics } = smmu;
    for (let opcode = 0; opcode < OPCODE_COUNT; opcode++) {
      const count = statistics.commands[opcode];
      const name = `CMD_${opcodeName(opcode) ?? opcode}`;
      if (count > 0) commands[name] = (commands[name] ?? 0) + count;
    }
    iotlbHits += statistics.iotlbHits;
    iotlbMisses += statistics.iotlbMisses;
  }
  return { commands, iotlbHits, iotlbMisses };
}
