/**
 * What limits a replay: the CPUs' calls, the SMMU, or that CPUs wait for the device to use what
 * they mapped; at its own pace it may be nothing but the capture.
 */

import type { TimedMachineFace } from "#machine";
import { type Bottleneck, bottleneckOf } from "./simulate/bottleneck.js";
import { iovaCommonOf, type Resource } from "./simulate/resources.js";
import type { System, SystemDevice } from "./system.js";

/** A replay that takes at most so many times as long as its capture keeps up with it. */
const KEEPS_UP = 1.05;

/** Busy time of everything that can be the limit, at one moment. */
export interface ReplayLoad {
  /** By CPU, and by SMMU. */
  readonly cpusNs: readonly number[];
  readonly smmusNs: readonly number[];
  /** In what CPUs share of the devices' IOVA allocators. */
  readonly iovaCommonNs: number;
}

export function replayLoad(
  { machine, instances }: System,
  devices: Iterable<SystemDevice>,
): ReplayLoad {
  if (machine.kind !== "timed") return { cpusNs: [], smmusNs: [], iovaCommonNs: 0 };
  return {
    cpusNs: machine.cpus.map(({ id }) => machine.cpuTime(id).busyNs),
    smmusNs: instances.map(({ smmu }) => busyOf(machine, `${smmu.name} commands`)),
    iovaCommonNs: iovaCommonOf(devices).busyNs,
  };
}

function busyOf(machine: TimedMachineFace, agent: string): number {
  return machine.agentTime(agent)?.busyNs ?? 0;
}

export interface ReplayTimes {
  readonly durationNs: number;
  /** Of the capture, when it sets the pace. */
  readonly capturedNs: number | undefined;
  /** In maps and unmaps, of all CPUs. */
  readonly mapNs: number;
  readonly unmapNs: number;
  readonly syncsPerUnmap: number;
}

export function replayLimit(before: ReplayLoad, after: ReplayLoad, times: ReplayTimes): Bottleneck {
  const { durationNs, capturedNs } = times;
  if (capturedNs !== undefined && durationNs <= KEEPS_UP * capturedNs) {
    return { kind: "pace", text: "the capture's own pace, with which it keeps up" };
  }
  const used = (kind: Resource["kind"], was: readonly number[], is: readonly number[]) =>
    is.map((ns, index) => ({
      kind,
      name: `${kind}${index}`,
      utilisation: durationNs === 0 ? 0 : (ns - was[index]) / durationNs,
    }));
  const cpus = used("cpu", before.cpusNs, after.cpusNs);
  const found = bottleneckOf({
    ...times,
    iovaCommonNs: after.iovaCommonNs - before.iovaCommonNs,
    busyNs: after.cpusNs.reduce((sum, ns, id) => sum + ns - before.cpusNs[id], 0),
    resources: [...cpus, ...used("smmu", before.smmusNs, after.smmusNs)],
    copyNs: 0,
    interruptNs: cpus.map(() => 0),
  });
  if (found.kind === "cpu") return { kind: "cpu", text: "CPU time of maps and unmaps" };
  if (found.kind !== "depth") return found;
  return { kind: "depth", text: "the order of the capture: unmaps wait for the device's accesses" };
}
