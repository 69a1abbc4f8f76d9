/**
 * `kunpeng-d06`: HiSilicon D06, two Kunpeng 920 (hi1620) of 48 cores: the machine of most
 * published measurements of SMMUv3 under contention.
 *
 * Eight numbers are solved for, on eight measurements, and the drive's rate on a ninth: see
 * `fitted`. The sources are A01, A03, A06 and S00 of bench/published: B. Song, "RE: arm-smmu-v3
 * high cpu usage for NVMe", 2020-05-25; J. Garry, "[PATCH v2 0/2] iommu/arm-smmu-v3: Improve cmdq
 * lock efficiency", 2020-08-21; B. Song, "iommu/arm-smmu-v3: permit users to disable msi polling",
 * 2020-08-27; "add non-strict mode support for arm-smmu-v3", 2018-05-31. All other rows of theirs
 * follow; docs/published.md shows them.
 */

import { extendProfile } from "./extend.js";
import { genericArm } from "./generic-arm.js";
import { assumed, bytes, count, fitted, flag, ns, type Quantity, quoted } from "./quantity.js";

/** Our instruction counts times six: the kernel's path has what we do not execute, and probes. */
const WORK_FACTOR = 6;
const WORK_FIT = fitted(
  "A01-01, dma_unmap on one CPU, less the command queue's part: one factor for all of these",
);

function scaled(name: keyof typeof genericArm.machine.workNs): Quantity {
  return ns(genericArm.machine.workNs[name].value * WORK_FACTOR, WORK_FIT);
}

/** github.com/nviennot/core-to-core-latency: the table of the 920-6426, two dies of 32 cores. */
const MESSAGES = "core-to-core-latency (N. Viennot), results of a Kunpeng 920-6426";

const FETCH = "A03-04, 16 CPUs and fetch-and-add: 193K pairs/s per CPU";

export const kunpengD06 = extendProfile(genericArm, {
  name: "kunpeng-d06",
  description: "HiSilicon D06: two sockets, 96 CPUs, clusters of four, SMMUv3 with MSIs",
  system: {
    cpus: count(
      96,
      quoted("'arm-smmu-v3 high cpu usage for NVMe', kernel list, 2020: D06 with 96 CPUs (A07)"),
    ),
    smmus: count(1, assumed("the measurements are of devices behind one SMMU")),
    syncByMsi: flag(1, quoted("'add non-strict mode support for arm-smmu-v3', 2018: with MSIs")),
  },
  machine: {
    cpu: {
      hitNs: ns(1.5, assumed("L1 hit of 4 cycles at 2.6 GHz")),
      clusterTransferNs: ns(33, quoted(`${MESSAGES}: 30 to 38 ns within a cluster of four`)),
      // Messages between two CPUs that nobody disturbs take 33 to 38 ns within a die and 73 to 88
      // between dies there. These are what a transfer takes when a whole die, or three, ask for
      // the line.
      socketTransferNs: ns(73, fitted("A01-04, dma_unmap of 16 CPUs: 8891 ns")),
      remoteTransferNs: ns(84, fitted("A03-07, 64 CPUs and compare-exchange: 11K pairs/s per CPU")),
      atomicNs: ns(15, assumed("LSE atomic on an owned line: about 40 cycles")),
      orderFenceNs: ns(20, assumed("dmb oshst behind stores that are on their way")),
      lineBytes: bytes(
        128,
        quoted("Huawei, Kunpeng Porting Guide, 'Difference Between Processors': L3 lines of 128 B"),
      ),
      cacheLines: count(
        4096,
        quoted("WikiChip, Kunpeng 920-4826: 48 x 512 KiB of L2; by lines of 128 bytes"),
      ),
      // "Huawei's Kunpeng 920 and TaiShan v110", Chips and Cheese: dies of up to 32 cores, with
      // memory controllers of their own; 920-4826: two of them, and one for I/O.
      cpusPerSocket: count(24, assumed("half of a socket's 48 cores: a die and its memory")),
    },
    register: {
      writeNs: ns(250, fitted("A01-02, arm_smmu_cmdq_issue_cmdlist on one CPU: 1328 ns")),
      postedNs: ns(100, assumed("over the mesh to the SMMU")),
    },
    device: {
      memoryReadNs: ns(90, fitted(FETCH)),
      remoteReadNs: ns(250, fitted("A03-08, 64 CPUs and fetch-and-add: 30K pairs/s per CPU")),
      memoryWriteNs: ns(100, assumed("a write that takes the line from CPUs that watch it")),
    },
    workNs: {
      dmaCall: scaled("dmaCall"),
      treeNode: scaled("treeNode"),
      magazine: scaled("magazine"),
      pageTableLevel: scaled("pageTableLevel"),
      pageTableEntry: scaled("pageTableEntry"),
      command: scaled("command"),
      flushQueueEntry: scaled("flushQueueEntry"),
      pageAllocation: scaled("pageAllocation"),
      bitmapWord: scaled("bitmapWord"),
      scatterSegment: scaled("scatterSegment"),
      copyKilobyte: ns(80, assumed("12 GB/s per CPU; an Altra copies 11.5 GB/s (B10-08)")),
    },
  },
  smmu: {
    commandFetchNs: ns(40, assumed("decoding, of the time per command that memoryReadNs fits")),
    invalidateAddressNs: ns(100, assumed("broadcast of one TLBI to the TLB units")),
    // Asking all TLB units takes long, and is not done if they were told nothing.
    syncNs: ns(750, fitted("A01-03, wait for CMD_SYNC on one CPU: 883 ns")),
    syncAloneNs: ns(75, fitted("A06-01, wait for a CMD_SYNC alone in an empty queue: 280 ns")),
  },
  nvme: {
    commandNs: ns(1745, fitted("S00-02, NVMe random read, non-strict: 573K IOPS")),
  },
});
