/** What comes out of a simulation, as plain data: it may come from a worker thread. */

import type { Histogram } from "../histogram.js";
import type { Mode } from "../mode.js";
import { type Bottleneck, bottleneckOf } from "./bottleneck.js";
import type { SimulationPlan } from "./plan.js";
import { type Meter, type Resource, type Snapshot, share } from "./resources.js";
import type { WhyAccounts, WhyReport } from "./why.js";
import type { Window } from "./window.js";

export interface Latency {
  readonly mean: number;
  readonly p50: number;
  readonly p99: number;
  readonly max: number;
}

export interface SimulationResult {
  readonly mode: Mode;
  readonly cpus: number;
  /** Requests (or packets) that completed within the window, and their rate. */
  readonly count: number;
  readonly perSecond: number;
  /** Half the width of the rate's 95 % interval: longer windows know more. */
  readonly perSecondHalfWidth: number;
  readonly bytesPerSecond: number;
  /** fio's `lat`: from a job's taking a request up until it sees it completed. */
  readonly latencyNs: Latency;
  /** fio's `slat` and `clat`, its two parts: until the device has it, and from there. */
  readonly slatNs?: Latency;
  readonly clatNs?: Latency;
  /** CPU time per request, of all CPUs together. */
  readonly cpuNsPerRequest: number;
  /** Of all CPUs, 0 to 1. */
  readonly cpuUtilisation: number;
  readonly mapNs: number;
  readonly unmapNs: number;
  readonly interrupts: number;
  /** Commands that the SMMUs consumed, by name. */
  readonly commands: Readonly<Record<string, number>>;
  readonly iotlb: { readonly hits: number; readonly misses: number };
  /** Addresses that no magazine had, or had room for: what went to the allocators' rbtrees. */
  readonly iovaTree: { readonly allocations: number; readonly frees: number };
  /** Time that devices' accesses to data took to get through the IOMMU, all together. */
  readonly translationNs: number;
  readonly errors: number;
  readonly resources: readonly Resource[];
  readonly bottleneck: Bottleneck;
  /** What went before the window. */
  readonly rampNs: number;
  /** If the plan asks for it. */
  readonly why?: WhyReport;
}

export function resultOf(
  plan: SimulationPlan,
  window: Window,
  meter: Meter,
  before: Snapshot,
  after: Snapshot,
  errors: number,
  why: WhyAccounts | undefined,
  drift: number,
): Omit<SimulationResult, "rampNs"> {
  const { durationNs, count, slat, clat, lat } = window;
  const resources = meter.resources(before, after, durationNs);
  const busyNs = after.busyNs.reduce((sum, ns, id) => sum + ns - before.busyNs[id], 0);
  const maps = after.maps - before.maps;
  const unmaps = after.unmaps - before.unmaps;
  const commands = difference(after.commands, before.commands);
  const usage = {
    durationNs,
    busyNs,
    resources,
    mapNs: after.mapNs - before.mapNs,
    unmapNs: after.unmapNs - before.unmapNs,
    iovaCommonNs: after.iovaCommon.busyNs - before.iovaCommon.busyNs,
    syncsPerUnmap: unmaps === 0 ? 0 : (commands["CMD_SYNC"] ?? 0) / unmaps,
    copyNs: after.copyNs - before.copyNs,
    interruptNs: after.interruptNs.map((ns, id) => ns - before.interruptNs[id]),
  };
  return {
    mode: plan.mode,
    cpus: plan.cpus,
    count,
    perSecond: (count * 1e9) / durationNs,
    perSecondHalfWidth: window.halfWidthPerSecond(drift),
    bytesPerSecond: (window.bytes * 1e9) / durationNs,
    latencyNs: latencyOf(lat),
    ...(slat.count === 0 ? {} : { slatNs: latencyOf(slat), clatNs: latencyOf(clat) }),
    cpuNsPerRequest: count === 0 ? 0 : busyNs / count,
    cpuUtilisation: share(busyNs, durationNs * plan.cpus),
    mapNs: maps === 0 ? 0 : usage.mapNs / maps,
    unmapNs: unmaps === 0 ? 0 : usage.unmapNs / unmaps,
    interrupts: after.interrupts - before.interrupts,
    commands,
    iotlb: {
      hits: after.iotlbHits - before.iotlbHits,
      misses: after.iotlbMisses - before.iotlbMisses,
    },
    iovaTree: {
      allocations: after.iovaCommon.allocations - before.iovaCommon.allocations,
      frees: after.iovaCommon.frees - before.iovaCommon.frees,
    },
    translationNs: after.translationNs - before.translationNs,
    errors,
    resources,
    bottleneck: bottleneckOf(usage),
    ...(why === undefined ? {} : { why: why.report() }),
  };
}

function latencyOf(latency: Histogram): Latency {
  return {
    mean: latency.meanNs,
    p50: latency.quantileNs(0.5),
    p99: latency.quantileNs(0.99),
    max: latency.maxNs,
  };
}

function difference(
  after: Readonly<Record<string, number>>,
  before: Readonly<Record<string, number>>,
): Record<string, number> {
  const entries = Object.entries(after).map(
    ([name, count]) => [name, count - (before[name] ?? 0)] as const,
  );
  return Object.fromEntries(entries.filter(([, count]) => count > 0));
}
