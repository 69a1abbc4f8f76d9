/**
 * What is to be simulated, as plain data: it comes from a command line and may go to a worker
 * thread. Times are virtual.
 */

import type { CommandQueueKind, SyncCompletion } from "#drivers/smmuv3";
import type { DepotPolicy } from "#iova";
import type { Profile } from "#platform";
import type { IovaAge } from "../ageing.js";
import type { Mode } from "../mode.js";

export interface SimulationPlan {
  readonly mode: Mode;
  readonly cpus: number;
  readonly profile: Profile;
  readonly seed: number;
  readonly devices: number;
  /** SMMU instances that the devices are spread over. */
  readonly smmus: number;
  /** The lock-less queue with compare-exchange where not given. */
  readonly commandQueue?: CommandQueueKind;
  /** As the profile says where not given. */
  readonly sync?: SyncCompletion;
  /** As kernels since 6.7 where not given. */
  readonly iovaDepot?: DepotPolicy;
  /** What the allocators went through before the devices are started; nothing where not given. */
  readonly iovaAge?: IovaAge;
  /** What is measured, after `rampNs` that are not; until the load is steady where not given. */
  readonly runtimeNs: number;
  readonly rampNs?: number;
  /** Account for where the CPUs' time goes; see `why.ts`. */
  readonly why: boolean;
}

/** What fio's `rw` says. */
export type ReadWrite = "randread" | "randwrite" | "randrw" | "read" | "write" | "rw";
export const READ_WRITES: readonly ReadWrite[] = [
  "randread",
  "randwrite",
  "randrw",
  "read",
  "write",
  "rw",
];

/** fio's words: each of `numjobs` keeps `iodepth` requests of `blockBytes` in flight. */
export interface BlockPlan extends SimulationPlan {
  readonly kind: "nvme";
  readonly rw: ReadWrite;
  readonly blockBytes: number;
  readonly iodepth: number;
  readonly numjobs: number;
}

/** netperf's tests: streams out and in, and one request at a time for its response. */
export const NET_TESTS = ["TCP_STREAM", "TCP_MAERTS", "UDP_STREAM", "TCP_RR", "UDP_RR"] as const;
export type NetTest = (typeof NET_TESTS)[number];

/** Whether a receive buffer stays mapped from one frame to the next. */
export type ReceiveBuffers = "pool" | "map";

/** netperf's words: `streams` connections, each with messages of `messageBytes`. */
export interface NetPlan extends SimulationPlan {
  readonly kind: "net";
  readonly test: NetTest;
  readonly messageBytes: number;
  readonly streams: number;
  /** Frames up to this size are copied into memory that stays mapped; 0: none. */
  readonly copybreakBytes: number;
  readonly receiveBuffers: ReceiveBuffers;
  readonly mtuBytes: number;
}
