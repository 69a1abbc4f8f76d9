/**
 * What a machine's accesses cost, as plain numbers. `platform/` has profiles in which
 * every number comes with its provenance; this is the form that the timed machine uses.
 */

import type { WorkName } from "./work.js";

export interface CpuCosts {
  /** Access that hits the CPU's own cache. */
  readonly hitNs: number;
  /** Fetch of a line from a CPU of the same cluster, the same socket, another socket. */
  readonly clusterTransferNs: number;
  readonly socketTransferNs: number;
  readonly remoteTransferNs: number;
  /** Fetch of a line that no CPU holds: last-level cache or memory. */
  readonly memoryNs: number;
  /** What an atomic read-modify-write costs on top of owning the line. */
  readonly atomicNs: number;
  /** smp_mb() beyond waiting for the CPU's own stores. */
  readonly fullFenceNs: number;
  /** The other fences. */
  readonly orderFenceNs: number;
  readonly cpusPerCluster: number;
  readonly cpusPerSocket: number;
  /**
   * What is transferred, and lost, together: 64 bytes or 128, which on arm64 joins what Linux has
   * put on two lines (its L1_CACHE_BYTES is 64).
   */
  readonly lineBytes: number;
  /** Lines that a CPU's private cache holds; a power of two. */
  readonly cacheLines: number;
}

export interface RegisterCosts {
  /** Round trip of a register read. */
  readonly readNs: number;
  /** What a posted register write costs the CPU. */
  readonly writeNs: number;
  /** When the posted write reaches the device. */
  readonly postedNs: number;
}

export interface DeviceCosts {
  /** A device's read of memory, per access. Devices are on the first socket. */
  readonly memoryReadNs: number;
  /** The same of a line that a CPU of another socket owns. */
  readonly remoteReadNs: number;
  /** A device's posted write of memory. */
  readonly memoryWriteNs: number;
}

export interface MachineCosts {
  readonly cpu: CpuCosts;
  readonly register: RegisterCosts;
  readonly device: DeviceCosts;
  /**
   * Period of the kernel's tick (1 / CONFIG_HZ): its timers fire on ticks and never early, so
   * up to two periods late (kernel/time/timer.c, calc_index()). 0: timers are exact.
   */
  readonly timerTickNs: number;
  /** Nanoseconds per step of work. */
  readonly workNs: Readonly<Record<WorkName, number>>;
}
