/**
 * How busy everything was that can be the limit: taken at both ends of the window, and the
 * difference is what happened in it.
 */

import type { DmaDevice } from "#dma";
import type { CommonSpaceCounts } from "#iova";
import type { System } from "../system.js";
import type { CpuAccounts } from "./cpu-accounts.js";

/** Something with a capacity, by how much of it was in use. */
export interface Resource {
  readonly kind: "cpu" | "media" | "controller" | "link" | "wire" | "smmu";
  readonly name: string;
  /** 0 to 1. */
  readonly utilisation: number;
}

/** What a device says of itself. */
export interface MeteredDevice {
  readonly name: string;
  /** Time that its accesses to data took to get through the IOMMU so far. */
  translationNs(): number;
  readonly dma: DmaDevice;
  /** Time in use so far and capacity per nanosecond, of each part that can be the limit. */
  readonly parts: readonly {
    readonly kind: Resource["kind"];
    readonly name: string;
    readonly capacity: number;
    busyNs(): number;
  }[];
}

/** Counters of the CPUs and of the IOMMU at one moment. */
export interface Snapshot {
  /** By CPU. */
  readonly busyNs: readonly number[];
  readonly interruptNs: readonly number[];
  readonly mapNs: number;
  readonly unmapNs: number;
  readonly iovaCommon: CommonSpaceCounts;
  readonly copyNs: number;
  readonly maps: number;
  readonly unmaps: number;
  readonly interrupts: number;
  readonly translationNs: number;
  readonly commands: Readonly<Record<string, number>>;
  readonly iotlbHits: number;
  readonly iotlbMisses: number;
  /** By part of `parts`. */
  readonly partsBusyNs: readonly number[];
}

interface Part {
  readonly kind: Resource["kind"];
  readonly name: string;
  readonly capacity: number;
  busyNs(): number;
}

export class Meter {
  readonly #system: System;
  readonly #accounts: CpuAccounts;
  readonly #devices: readonly MeteredDevice[];
  readonly #parts: readonly Part[];

  constructor(system: System, accounts: CpuAccounts, devices: readonly MeteredDevice[]) {
    this.#system = system;
    this.#accounts = accounts;
    this.#devices = devices;
    const smmus = system.instances.map((_, index) => smmuPart(system, index));
    this.#parts = [...devices.flatMap(({ parts }) => parts), ...smmus];
  }

  snapshot(): Snapshot {
    const { machine } = this.#system;
    const accounts = this.#accounts;
    const { commands, iotlbHits, iotlbMisses } = this.#system.counters();
    return {
      busyNs: machine.cpus.map(({ id }) =>
        machine.kind === "timed" ? machine.cpuTime(id).busyNs : 0,
      ),
      interruptNs: [...accounts.interruptNs],
      mapNs: sum(accounts.mapNs),
      unmapNs: sum(accounts.unmapNs),
      iovaCommon: iovaCommonOf(this.#devices),
      copyNs: sum(accounts.copyNs),
      maps: accounts.maps,
      unmaps: accounts.unmaps,
      interrupts: accounts.interrupts,
      translationNs: this.#devices.reduce((total, device) => total + device.translationNs(), 0),
      commands,
      iotlbHits,
      iotlbMisses,
      partsBusyNs: this.#parts.map((part) => part.busyNs()),
    };
  }

  /** What was used between two snapshots that lie so far apart. */
  resources(before: Snapshot, after: Snapshot, durationNs: number): Resource[] {
    const cpus = after.busyNs.map((busyNs, id) => ({
      kind: "cpu" as const,
      name: `cpu${id}`,
      utilisation: share(busyNs - before.busyNs[id], durationNs),
    }));
    const parts = this.#parts.map(({ kind, name, capacity }, index) => ({
      kind,
      name,
      utilisation: share(
        after.partsBusyNs[index] - before.partsBusyNs[index],
        durationNs * capacity,
      ),
    }));
    return [...cpus, ...parts];
  }
}

/** The part of an SMMU that consumes commands. */
function smmuPart(system: System, index: number): Part {
  const { machine } = system;
  const { smmu } = system.instances[index];
  return {
    kind: "smmu",
    name: smmu.name,
    capacity: 1,
    busyNs: () =>
      machine.kind === "timed" ? (machine.agentTime(`${smmu.name} commands`)?.busyNs ?? 0) : 0,
  };
}

/** What happened so far in the common spaces of the devices' allocators, all together. */
export function iovaCommonOf(devices: Iterable<{ readonly dma: DmaDevice }>): CommonSpaceCounts {
  const sum = { allocations: 0, frees: 0, busyNs: 0 };
  for (const { dma } of devices) {
    const counts = dma.dma?.iovas.common;
    if (counts === undefined) continue;
    sum.allocations += counts.allocations;
    sum.frees += counts.frees;
    sum.busyNs += counts.busyNs;
  }
  return sum;
}

/** Work that is charged at once may end a little behind the window. */
export function share(busyNs: number, capacityNs: number): number {
  return Math.min(1, Math.max(0, busyNs / capacityNs));
}

function sum(values: Float64Array): number {
  return values.reduce((total, value) => total + value, 0);
}
