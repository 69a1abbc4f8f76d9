/**
 * Names what limits a simulation, from how busy everything was. "Is strict what limits me?" has
 * an answer only if something in the way of an unmap is what is used up.
 */

import type { Resource } from "./resources.js";

export interface Bottleneck {
  readonly kind:
    | "media"
    | "controller"
    | "link"
    | "wire"
    | "smmu"
    | "command-queue"
    | "allocator"
    | "dma-mapping"
    | "copy"
    | "interrupt-cpu"
    | "cpu"
    | "pace"
    | "depth";
  /** One clause for people. */
  readonly text: string;
}

export interface Usage {
  readonly durationNs: number;
  /** CPU time of all CPUs. */
  readonly busyNs: number;
  readonly resources: readonly Resource[];
  readonly mapNs: number;
  readonly unmapNs: number;
  /** In what CPUs share of IOVA allocators, rbtree and depot: waiting for locks or holding them. */
  readonly iovaCommonNs: number;
  /** CMD_SYNCs per unmap. */
  readonly syncsPerUnmap: number;
  readonly copyNs: number;
  /** By CPU. */
  readonly interruptNs: readonly number[];
}

/** From here on something is used up: the rest is the grain of events and the window's edges. */
const USED_UP = 0.95;
/** CPUs have gaps between requests also when they are what limits. */
const CPU_USED_UP = 0.9;
/** A part of the CPU time from which on it is worth naming by itself. */
const LARGE_PART = 0.4;

export function bottleneckOf(usage: Usage): Bottleneck {
  return deviceLimit(usage) ?? cpuLimit(usage) ?? depthLimit(usage);
}

function deviceLimit({ resources }: Usage): Bottleneck | undefined {
  for (const kind of ["media", "controller", "link", "wire"] as const) {
    const all = resources.filter((resource) => resource.kind === kind);
    // With several devices each has its own jobs: all of them have to be used up.
    const least = Math.min(...all.map(({ utilisation }) => utilisation));
    if (all.length > 0 && least >= USED_UP) return { kind, text: DEVICE_TEXT[kind](least) };
  }
  return undefined;
}

/** With how far it is used up: what is close to `USED_UP` is to be seen as such. */
const DEVICE_TEXT = {
  media: (used: number) => `the device: its media work ${percentOf(used)} of the time`,
  controller: (used: number) =>
    `the device: its controller takes one command after the other ${percentOf(used)} of the time`,
  link: (used: number) => `the link to the device is in use ${percentOf(used)} of the time`,
  wire: (used: number) => `the wire is in use ${percentOf(used)} of the time`,
} as const;

function percentOf(part: number): string {
  return `${Math.round(100 * part)} %`;
}

function cpuLimit(usage: Usage): Bottleneck | undefined {
  const { resources, busyNs, mapNs, unmapNs, iovaCommonNs, copyNs, interruptNs, durationNs } =
    usage;
  const cpus = resources.filter(({ kind }) => kind === "cpu");
  const busiest = cpus.reduce((most, cpu) => (cpu.utilisation > most.utilisation ? cpu : most));
  if (busiest.utilisation < CPU_USED_UP) return undefined;
  const smmu = resources.find(({ kind, utilisation }) => kind === "smmu" && utilisation >= USED_UP);
  const percent = (part: number): string => `${percentOf(part / busyNs)} of CPU time`;
  if (iovaCommonNs >= LARGE_PART * busyNs && iovaCommonNs >= (mapNs + unmapNs) / 2) {
    const what = `the locks of its rbtree and depot take ${percent(iovaCommonNs)}`;
    return { kind: "allocator", text: `the IOVA allocator: ${what}` };
  }
  // Only unmaps that wait for the SMMU can be held up by it.
  if (unmapNs >= LARGE_PART * busyNs && usage.syncsPerUnmap >= LARGE_PART) {
    if (smmu !== undefined) {
      const busy = percentOf(smmu.utilisation);
      return {
        kind: "smmu",
        text: `the SMMU executes commands ${busy} of the time (${smmu.name})`,
      };
    }
    const what = `unmaps take ${percent(unmapNs)}`;
    return { kind: "command-queue", text: `the command queue: ${what}` };
  }
  if (mapNs + unmapNs >= LARGE_PART * busyNs) {
    const what = `maps and unmaps take ${percent(mapNs + unmapNs)}`;
    return { kind: "dma-mapping", text: `the DMA API's own work: ${what}` };
  }
  if (copyNs >= LARGE_PART * busyNs) {
    return { kind: "copy", text: `memory copy takes ${percent(copyNs)}` };
  }
  const average = busyNs / (durationNs * cpus.length);
  const inInterrupts = Math.max(...interruptNs) / durationNs;
  if (average < CPU_USED_UP * busiest.utilisation && inInterrupts > LARGE_PART) {
    return {
      kind: "interrupt-cpu",
      text:
        `${busiest.name}, which takes completion interrupts, is busy ` +
        `${percentOf(busiest.utilisation)} of the time`,
    };
  }
  return { kind: "cpu", text: "CPU time of the I/O path, which is there without an IOMMU too" };
}

function depthLimit({ resources }: Usage): Bottleneck {
  const most = resources.reduce((a, b) => (b.utilisation > a.utilisation ? b : a));
  const what = most.kind === "cpu" ? most.name : `${most.kind} of ${most.name}`;
  return {
    kind: "depth",
    text:
      "the number of requests in flight: nothing is used up, " +
      `${what} is in use ${percentOf(most.utilisation)} of the time`,
  };
}
