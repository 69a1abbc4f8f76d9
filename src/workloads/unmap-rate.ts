/**
 * How many pages a second CPUs can unmap from one strict domain: nothing but page table,
 * invalidation and waiting, so that the ways to queue commands, to wait for them and to know
 * what to invalidate can be compared. Each CPU maps and unmaps pages of its own.
 */

import {
  type CommandQueueKind,
  createSmmuV3Driver,
  type InvalidationScheme,
  type MultiInstance,
  type SmmuDomain,
  SmmuShared,
  type SmmuV3Driver,
  type SyncCompletion,
} from "#drivers/smmuv3";
import { Endpoint } from "#hardware/devices";
import { createSmmuV3, type SmmuV3 } from "#hardware/smmuv3";
import { type IommuDevice, iommuMap, iommuUnmap } from "#iommu";
import { type Cpu, type Routine, type TimedMachineFace, timedMachine } from "#machine";
import { Protection } from "#pagetable";
import { machineCosts, type Profile, smmuCosts, valuesOf } from "#platform";

export interface UnmapRateOptions {
  readonly profile: Profile;
  readonly cpus: number;
  readonly seed?: number;
  /** The kernel's lock-less queue where not given. */
  readonly commandQueue?: CommandQueueKind;
  /** `poll` where not given. */
  readonly syncCompletion?: SyncCompletion;
  /** `array` where not given. */
  readonly invalidation?: InvalidationScheme;
  /** SMMUs that the domain is behind, with a device each; 1 where not given. */
  readonly smmus?: number;
  /** `concurrent` where not given. */
  readonly multiInstance?: MultiInstance;
  /** Devices of the first SMMU that cache translations; none where not given. */
  readonly atsDevices?: number;
  /** In all; a share of it for each CPU. */
  readonly unmaps: number;
}

export interface UnmapRate {
  readonly unmapsPerSecond: number;
  /** What one unmap takes its CPU. */
  readonly unmapMeanNs: number;
}

const PAGE_BYTES = 4096;
/** Rounds of each CPU that are not counted: tables and lines get where they belong. */
const WARM_UP_ROUNDS = 3;
/** Each CPU has a gigabyte of addresses, of which it uses one table of pages in turn. */
const CPU_BYTES = 2 ** 30;
const PAGES_IN_TURN = 512;
/** Where the first SMMU's registers lie, as on QEMU's `virt` board; each has 128 KiB. */
const REGISTERS_FIRST = 0x0905_0000;
const REGISTERS_BYTES = 0x2_0000;
const READ_WRITE = Protection.read | Protection.write | Protection.cache;

export function measureUnmapRate(options: UnmapRateOptions): UnmapRate {
  const machine = timedMachine({
    cpus: options.cpus,
    seed: options.seed ?? 1,
    costs: machineCosts(options.profile),
  });
  const domain = setUp(machine, options);
  const rounds = Math.max(1, Math.round(options.unmaps / options.cpus));
  let firstNs = Number.POSITIVE_INFINITY;
  let lastNs = 0;
  let unmapNs = 0;
  for (let id = 0; id < options.cpus; id++) {
    machine.start(id, function* (cpu) {
      yield* mapAndUnmap(cpu, domain, WARM_UP_ROUNDS);
      firstNs = Math.min(firstNs, cpu.now());
      unmapNs += yield* mapAndUnmap(cpu, domain, rounds);
      lastNs = Math.max(lastNs, cpu.now());
    });
  }
  machine.run();
  const unmaps = rounds * options.cpus;
  return {
    unmapsPerSecond: (unmaps / (lastNs - firstNs)) * 1e9,
    unmapMeanNs: unmapNs / unmaps,
  };
}

/** Returns the time that the unmaps took. */
function* mapAndUnmap(cpu: Cpu, domain: SmmuDomain, rounds: number): Routine<number> {
  let unmapNs = 0;
  for (let round = 0; round < rounds; round++) {
    const iova = (1 + cpu.id) * CPU_BYTES + (round % PAGES_IN_TURN) * PAGE_BYTES;
    yield* iommuMap(cpu, domain, iova, iova, PAGE_BYTES, READ_WRITE);
    const startNs = cpu.now();
    yield* iommuUnmap(cpu, domain, iova, PAGE_BYTES);
    unmapNs += cpu.now() - startNs;
  }
  return unmapNs;
}

/** SMMUs, their drivers and devices, and the domain that all devices are in. */
function setUp(machine: TimedMachineFace, options: UnmapRateOptions): SmmuDomain {
  const { invalidation, multiInstance } = options;
  const shared = new SmmuShared({
    cpuCount: options.cpus,
    ...(invalidation === undefined ? {} : { invalidation }),
    ...(multiInstance === undefined ? {} : { multiInstance }),
  });
  let domain: SmmuDomain | undefined;
  for (let index = 0; index < (options.smmus ?? 1); index++) {
    const { smmu, driver } = addSmmu(machine, options, shared, index);
    const devices =
      index === 0 ? addEndpoints(machine, smmu, options.atsDevices ?? 0, options.profile) : [];
    if (devices.length === 0) devices.push({ name: `device${index}`, streamIds: [1] });
    machine.call(0, function* (cpu) {
      domain ??= yield* driver.allocatePaging(cpu);
      for (const device of devices) yield* driver.attach(cpu, device, domain);
    });
  }
  return domain as SmmuDomain;
}

function addSmmu(
  machine: TimedMachineFace,
  options: UnmapRateOptions,
  shared: SmmuShared,
  index: number,
): { smmu: SmmuV3; driver: SmmuV3Driver } {
  const base = REGISTERS_FIRST + index * REGISTERS_BYTES;
  const { commandQueue, syncCompletion = "poll" } = options;
  const driver = createSmmuV3Driver(machine, {
    base,
    shared,
    syncCompletion,
    ...(commandQueue === undefined ? {} : { commandQueue }),
  });
  const smmu = createSmmuV3(machine, {
    name: `smmu${index}`,
    base,
    interrupts: { gerror: driver.globalErrorInterrupt, syncEvent: driver.syncEvent },
    capabilities: {
      msi: syncCompletion === "msi",
      sev: syncCompletion === "event",
      ats: (options.atsDevices ?? 0) > 0,
    },
    timing: smmuCosts(options.profile),
  });
  machine.call(0, (cpu) => driver.probe(cpu));
  return { smmu, driver };
}

function addEndpoints(
  machine: TimedMachineFace,
  smmu: SmmuV3,
  count: number,
  profile: Profile,
): IommuDevice[] {
  const { atcEntries, ...timing } = valuesOf(profile.endpoint);
  const linkNs = profile.link.latencyNs.value;
  return Array.from({ length: count }, (_, index) => {
    const name = `endpoint${index}`;
    const streamId = 1 + index;
    const { ats } = new Endpoint(machine, {
      ...{ name, streamId, iommu: smmu, atcEntries },
      timing: { ...timing, linkNs },
    });
    return { name, streamIds: [streamId], ats };
  });
}
