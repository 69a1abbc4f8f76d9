/** The comparison for machines. Field names are part of the interface: add, never rename. */

import type { ReplayResult } from "#workloads";
import type { ReplayOutcome } from "./replay-job.js";

export function jsonReport(outcome: ReplayOutcome): string {
  const { header, statistics, survey, plan, results, findings } = outcome;
  const report = {
    capture: {
      file: header.file,
      format: header.format,
      version: header.version ?? null,
      events: statistics.events,
      maps: survey.maps,
      unmaps: survey.unmaps,
      cpus: survey.cpus,
      devices: [...survey.devices],
      durationNs: survey.durationNs,
      lost: statistics.lost,
    },
    profile: plan.profile.name,
    iommu: "smmuv3",
    pace: plan.pace,
    cpus: plan.cpus ?? survey.cpus,
    seed: plan.seed,
    modes: results.map(modeOf),
    findings: findings.map(({ kind, count, message }) => ({ kind, count, message })),
  };
  return `${JSON.stringify(report, undefined, 2)}\n`;
}

function modeOf(result: ReplayResult): object {
  const operations = result.maps + result.unmaps;
  return {
    mode: result.mode,
    maps: result.maps,
    unmaps: result.unmaps,
    durationNs: Math.round(result.durationNs),
    opsPerSecond: Math.round(opsPerSecond(result)),
    cpuNsPerOp: operations === 0 ? 0 : tenth(result.busyNs / operations),
    limit: result.bottleneck.kind,
    limitText: result.bottleneck.text,
    mapLatencyNs: latency(result.mapLatency),
    unmapLatencyNs: latency(result.unmapLatency),
    invalidations: { ...result.invalidations, CMD_SYNC: result.invalidations["CMD_SYNC"] ?? 0 },
    iotlb: result.iotlb,
    flushes: result.flushes.byFullQueue + result.flushes.byTimer,
    flushesBy: { fullQueue: result.flushes.byFullQueue, timer: result.flushes.byTimer },
  };
}

/** Maps and unmaps per second of virtual time. */
export function opsPerSecond(result: ReplayResult): number {
  if (result.durationNs === 0) return 0;
  return ((result.maps + result.unmaps) * 1e9) / result.durationNs;
}

function latency(histogram: ReplayResult["mapLatency"]): object {
  return {
    mean: tenth(histogram.meanNs),
    p50: tenth(histogram.quantileNs(0.5)),
    p99: tenth(histogram.quantileNs(0.99)),
  };
}

function tenth(valueNs: number): number {
  return Math.round(valueNs * 10) / 10;
}
