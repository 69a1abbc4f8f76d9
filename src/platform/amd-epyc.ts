/**
 * `amd-epyc`: two EPYC of the Rome to Milan generations. The IOMMU model below it is SMMUv3
 * with the times of AMD-Vi's invalidations, as for `intel-skylake`.
 */

import { extendProfile } from "./extend.js";
import { genericArm } from "./generic-arm.js";
import { assumed, count, ns, quoted } from "./quantity.js";

/** github.com/nviennot/core-to-core-latency: medians of messages that nobody disturbs. */
const MESSAGES = "core-to-core-latency (N. Viennot), two EPYC 7R13 (Milan)";

export const amdEpyc = extendProfile(genericArm, {
  name: "amd-epyc",
  description: "two EPYC (Rome to Milan) of 64 cores, clusters of eight that share an L3",
  system: {
    cpus: count(128, assumed("2 x 64 cores, one thread each")),
  },
  machine: {
    cpu: {
      hitNs: ns(1.2, assumed("L1 hit of 4 cycles at 3.3 GHz")),
      clusterTransferNs: ns(23, quoted(`${MESSAGES}: 23 ns within a core complex`)),
      socketTransferNs: ns(107, quoted(`${MESSAGES}: 107 ns between those of one socket`)),
      remoteTransferNs: ns(197, quoted(`${MESSAGES}: 197 ns between sockets`)),
      memoryNs: ns(100, assumed("DDR4-3200 over the I/O die")),
      atomicNs: ns(6, assumed("lock-prefixed operation on an owned line")),
      fullFenceNs: ns(8, assumed("lock add on the stack: what smp_mb() is on x86")),
      orderFenceNs: ns(0, assumed("x86 orders stores by itself: a barrier of the compiler only")),
      cpusPerCluster: count(8, quoted(`${MESSAGES}: groups of 8`)),
      cpusPerSocket: count(64, assumed("EPYC 7742, 7763")),
      cacheLines: count(8192, assumed("512 KiB private L2 of 64-byte lines")),
    },
    register: {
      readNs: ns(400, assumed("uncached read over the I/O die")),
      writeNs: ns(30, assumed("uncached write, posted")),
    },
    timerTickNs: ns(4e6, quoted("CONFIG_HZ=250 in the amd64 kernels of Debian and Ubuntu")),
  },
  smmu: {
    syncNs: ns(700, assumed("COMPLETION_WAIT with its store to memory over the I/O die")),
    syncAloneNs: ns(700, assumed("as behind an invalidation: not known apart")),
    invalidateAddressNs: ns(200, assumed("INVALIDATE_IOMMU_PAGES in each of the IOMMU's TLBs")),
  },
});
