/**
 * What a profile has: every number that there is, by group, with its unit. Schema, types and
 * messages follow from these tables.
 */

import type { WorkName } from "#machine";
import type { Unit } from "./quantity.js";

/** How large the machine is where nobody says how many CPUs or SMMUs he wants. */
export const SYSTEM_UNITS = {
  cpus: "count",
  /** SMMU instances that the devices of a job are spread over. */
  smmus: "count",
  /** The SMMU writes to memory when a CMD_SYNC is complete; else CPUs poll a register. */
  syncByMsi: "flag",
} as const satisfies Record<string, Unit>;

/** See `CpuCosts` in machine/cost.ts. */
export const CPU_UNITS = {
  hitNs: "ns",
  clusterTransferNs: "ns",
  socketTransferNs: "ns",
  remoteTransferNs: "ns",
  memoryNs: "ns",
  atomicNs: "ns",
  fullFenceNs: "ns",
  orderFenceNs: "ns",
  cpusPerCluster: "count",
  cpusPerSocket: "count",
  lineBytes: "bytes",
  cacheLines: "count",
} as const satisfies Record<string, Unit>;

/** See `RegisterCosts`. */
export const REGISTER_UNITS = {
  readNs: "ns",
  writeNs: "ns",
  postedNs: "ns",
} as const satisfies Record<string, Unit>;

/** See `DeviceCosts`: an agent on the chip, such as the SMMU. */
export const DEVICE_UNITS = {
  memoryReadNs: "ns",
  remoteReadNs: "ns",
  memoryWriteNs: "ns",
} as const satisfies Record<string, Unit>;

/** See `Work`: computation without accesses to shared variables, per step. */
export const WORK_UNITS = {
  dmaCall: "ns",
  treeNode: "ns",
  magazine: "ns",
  pageTableLevel: "ns",
  pageTableEntry: "ns",
  command: "ns",
  flushQueueEntry: "ns",
  pageAllocation: "ns",
  copyKilobyte: "ns",
  bitmapWord: "ns",
  interrupt: "ns",
  scatterSegment: "ns",
} as const satisfies Record<WorkName, Unit>;

/** What the SMMU takes by itself; see `SmmuV3Timing` in hardware/smmuv3/timing.ts. */
export const SMMU_UNITS = {
  commandFetchNs: "ns",
  invalidateConfigurationNs: "ns",
  invalidateAddressNs: "ns",
  invalidateTagNs: "ns",
  resumeNs: "ns",
  pageResponseNs: "ns",
  atcInvalidationNs: "ns",
  atcTimeoutNs: "ns",
  translationRequestNs: "ns",
  syncNs: "ns",
  syncAloneNs: "ns",
  iotlbHitNs: "ns",
  walkStepNs: "ns",
} as const satisfies Record<string, Unit>;

/** CPU time of the path between an application and the driver, per request. */
export const IO_UNITS = {
  /** System call, file, block layer and driver, up to the doorbell; without DMA mapping. */
  storageSubmitNs: "ns",
  /** From the entry of the completion queue to the application; without DMA unmapping. */
  storageCompleteNs: "ns",
  /** Protocols and driver, per packet handed to the device; without DMA mapping. */
  networkTransmitNs: "ns",
  networkReceiveNs: "ns",
} as const satisfies Record<string, Unit>;

/** An NVMe drive. */
export const NVME_UNITS = {
  queuePairs: "count",
  queueEntries: "count",
  /** Requests that the media work on side by side. */
  channels: "count",
  /** One 4 KiB block from the media, and to them or to the drive's write cache. */
  readMediaNs: "ns",
  writeMediaNs: "ns",
  /** What the controller takes per command, one after the other. */
  commandNs: "ns",
  /** A completion interrupt waits for so much time or so many completions; 0 and 1: none. */
  interruptDelayNs: "ns",
  interruptCount: "count",
} as const satisfies Record<string, Unit>;

/** A network adapter. */
export const NIC_UNITS = {
  queuePairs: "count",
  ringEntries: "count",
  /** What the adapter takes per packet, one after the other, besides the wire. */
  packetNs: "ns",
  wireBandwidth: "bytes/ns",
  interruptDelayNs: "ns",
  interruptCount: "count",
  /** Packets up to this size are copied into memory that stays mapped; 0: none. */
  copybreakBytes: "bytes",
} as const satisfies Record<string, Unit>;

/**
 * An endpoint that caches translations, besides its link; see `EndpointTiming` in
 * hardware/devices/endpoint/options.ts.
 */
export const ENDPOINT_UNITS = {
  atcLookupNs: "ns",
  invalidateNs: "ns",
  configurationNs: "ns",
  pageRetryNs: "ns",
  /** Translations that its cache holds. */
  atcEntries: "count",
} as const satisfies Record<string, Unit>;

/** The link between a device and the root port (PCIe). */
export const LINK_UNITS = {
  bandwidth: "bytes/ns",
  /** One way, from the device to the root port. */
  latencyNs: "ns",
  /** Data of one packet of the link. */
  payloadBytes: "bytes",
} as const satisfies Record<string, Unit>;
