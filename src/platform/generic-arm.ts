/**
 * `generic-arm`: a two-socket Arm server of the kind that SMMUv3 is found in, 64 CPUs a
 * socket in clusters of four. Nothing here is fitted to a particular machine: it gives
 * the right order of magnitude and the right shape, not a prediction for yours.
 */

import { assumed, bytes, bytesPerNs, count, flag, ns, quoted } from "./quantity.js";
import type { Profile } from "./schema.js";

const INSTRUCTIONS = "counted as instructions of the kernel's path at about 2 per nanosecond";

export const genericArm: Profile = {
  name: "generic-arm",
  description: "two-socket Arm server, 64 CPUs a socket, clusters of four, one SMMUv3",
  system: {
    cpus: count(128, assumed("two sockets of 64")),
    smmus: count(1, assumed("all devices of a job behind one SMMU: the hardest case")),
    syncByMsi: flag(0, assumed("polling works everywhere; many servers have MSIs")),
  },
  machine: {
    cpu: {
      hitNs: ns(1, assumed("L1 hit of 3 to 4 cycles at 2.6 to 3 GHz")),
      clusterTransferNs: ns(25, assumed("L2 to L2 within a cluster over its shared L3 tag")),
      // Undisturbed, within a socket: 47 and 46 ns on Graviton 2 and 3 (core-to-core-latency, N.
      // Viennot), 30 to 60 on Graviton 4, and 139 between its sockets (Chips and Cheese, 2024).
      socketTransferNs: ns(60, assumed("over a mesh of 64 cores, several of which ask for a line")),
      remoteTransferNs: ns(170, assumed("socket to socket link round trip of 2019 to 2023 parts")),
      memoryNs: ns(90, assumed("DRAM latency of an 8-channel DDR4 server under light load")),
      atomicNs: ns(5, assumed("LSE atomic on an owned line, acquire and release")),
      fullFenceNs: ns(10, assumed("dmb ish with an empty store buffer")),
      orderFenceNs: ns(3, assumed("dmb ishst or oshst, which waits for nothing to complete")),
      cpusPerCluster: count(4, assumed("Kunpeng 920 and Neoverse meshes with shared L3 slices")),
      cpusPerSocket: count(64, assumed("Kunpeng 920: 64 cores; Neoverse parts: 64 to 80")),
      lineBytes: bytes(64, assumed("one line of the CPUs' caches is one for everybody")),
      cacheLines: count(8192, assumed("512 KiB private L2 of 64-byte lines")),
    },
    register: {
      readNs: ns(150, assumed("on-chip device register: two mesh crossings plus the SMMU")),
      writeNs: ns(20, assumed("posted device write, nGnRE, accepted by the interconnect")),
      postedNs: ns(60, assumed("one mesh crossing until the SMMU sees it")),
    },
    device: {
      memoryReadNs: ns(70, assumed("SMMU read that snoops the last-level cache")),
      remoteReadNs: ns(180, assumed("the same, with a crossing between sockets added")),
      memoryWriteNs: ns(40, assumed("posted write into the last-level cache")),
    },
    timerTickNs: ns(
      4e6,
      quoted("CONFIG_HZ=250 in the arm64 kernels of Debian 12, Debian 13 and Ubuntu"),
    ),
    workNs: {
      dmaCall: ns(15, assumed(INSTRUCTIONS)),
      treeNode: ns(6, assumed("one node of a red-black tree, mostly in L2")),
      magazine: ns(4, assumed(INSTRUCTIONS)),
      pageTableLevel: ns(3, assumed(INSTRUCTIONS)),
      pageTableEntry: ns(2, assumed(INSTRUCTIONS)),
      command: ns(8, assumed(INSTRUCTIONS)),
      flushQueueEntry: ns(6, assumed(INSTRUCTIONS)),
      pageAllocation: ns(60, assumed("per-CPU page list, without the clearing")),
      copyKilobyte: ns(100, assumed("10 GB/s per CPU, source and target in cache or prefetched")),
      bitmapWord: ns(1, assumed(INSTRUCTIONS)),
      interrupt: ns(600, assumed("exception entry, GIC acknowledge and end, softirq dispatch")),
      scatterSegment: ns(8, assumed(INSTRUCTIONS)),
    },
  },
  smmu: {
    commandFetchNs: ns(20, assumed("decode; the 16 bytes come with their cache line")),
    invalidateConfigurationNs: ns(100, assumed("look-up and removal in the configuration cache")),
    invalidateAddressNs: ns(60, assumed("broadcast of one TLBI to the TLB units")),
    invalidateTagNs: ns(250, assumed("sweep of the TLB units by ASID or VMID")),
    resumeNs: ns(60, assumed("a look into a small buffer, as an address invalidation is")),
    pageResponseNs: ns(20, assumed("a message to the root complex: as long as decoding")),
    atcInvalidationNs: ns(20, assumed("a message to the root complex: as long as decoding")),
    atcTimeoutNs: ns(60e9, quoted("PCI Express Base Specification, 10.3.1: a minute")),
    translationRequestNs: ns(20, assumed("a message from the root complex, and back")),
    syncNs: ns(150, assumed("completion of outstanding invalidations and transactions")),
    syncAloneNs: ns(150, assumed("as behind an invalidation: no SMMU of the kind was measured")),
    iotlbHitNs: ns(5, assumed("look-up in the micro TLB of a TLB unit")),
    walkStepNs: ns(10, assumed("one level of a walk, besides the read of memory")),
  },
  io: {
    storageSubmitNs: ns(1000, assumed("io_uring to an NVMe queue without IOMMU, 4 KiB")),
    storageCompleteNs: ns(600, assumed("interrupt per some completions, block layer, io_uring")),
    networkTransmitNs: ns(500, assumed("UDP or TCP with segmentation offload, per frame")),
    networkReceiveNs: ns(500, assumed("NAPI, GRO and the socket, per frame, without the copy")),
  },
  nvme: {
    queuePairs: count(64, assumed("data-centre drives offer 64 to 128")),
    queueEntries: count(1024, assumed("what Linux asks for by default (nvme.io_queue_depth)")),
    channels: count(64, assumed("8 to 16 channels of several dies that read side by side")),
    readMediaNs: ns(75_000, assumed("TLC NAND page read with transfer: 60 to 90 us")),
    writeMediaNs: ns(12_000, assumed("into the drive's protected write cache")),
    commandNs: ns(1_000, assumed("1M commands per second: a PCIe 4 drive's data sheet")),
    interruptDelayNs: ns(0, assumed("Linux leaves interrupt coalescing off")),
    interruptCount: count(1, assumed("Linux leaves interrupt coalescing off")),
  },
  nic: {
    queuePairs: count(64, assumed("a queue pair per CPU, up to 64")),
    ringEntries: count(1024, assumed("the default of common 100 Gbit/s drivers")),
    packetNs: ns(7, assumed("about 150 million packets per second: the wire's maximum")),
    wireBandwidth: bytesPerNs(12.5, assumed("100 Gbit/s")),
    interruptDelayNs: ns(20_000, assumed("the order of adaptive moderation under load")),
    interruptCount: count(64, assumed("one NAPI poll's budget")),
    copybreakBytes: bytes(0, assumed("no copying unless asked for")),
  },
  endpoint: {
    atcLookupNs: ns(5, assumed("a small associative memory at about 1 GHz")),
    invalidateNs: ns(50, assumed("a sweep of the cache, and of what is under way")),
    configurationNs: ns(500, assumed("a write to configuration space is not posted: a round trip")),
    pageRetryNs: ns(10_000, assumed("as long as a fault handler takes that has the page at hand")),
    atcEntries: count(128, assumed("a small cache: as many as a micro TLB and its second level")),
  },
  link: {
    bandwidth: bytesPerNs(6.8, assumed("PCIe 4.0 x4: 7.9 GB/s less headers")),
    latencyNs: ns(250, assumed("half of a 500 ns PCIe read round trip")),
    payloadBytes: bytes(256, assumed("common maximum payload size")),
  },
};
