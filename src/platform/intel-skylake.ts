/**
 * `intel-skylake`: two Xeon Scalable of the Skylake to Cascade Lake generations. The IOMMU
 * model below it is SMMUv3 with the times of VT-d's invalidations: what its CPUs, caches and
 * devices do to a stack is this profile's, the command format is not.
 */

import { extendProfile } from "./extend.js";
import { genericArm } from "./generic-arm.js";
import { assumed, count, ns, quoted } from "./quantity.js";

/** github.com/nviennot/core-to-core-latency: medians of messages that nobody disturbs. */
const MESSAGES = "core-to-core-latency (N. Viennot), two Xeon Platinum 8275CL (Cascade Lake)";

export const intelSkylake = extendProfile(genericArm, {
  name: "intel-skylake",
  description: "two Xeon Scalable (Skylake to Cascade Lake) of 28 cores",
  system: {
    cpus: count(56, assumed("2 x 28 cores, one thread each")),
  },
  machine: {
    cpu: {
      hitNs: ns(1.3, assumed("L1 hit of 4 cycles (AnandTech, 2017) at 3 GHz")),
      clusterTransferNs: ns(25, assumed("no cores share an L2: only a line that left L1 and L2")),
      socketTransferNs: ns(47, quoted(`${MESSAGES}: 47 ns within a socket`)),
      remoteTransferNs: ns(134, quoted(`${MESSAGES}: 134 ns between sockets`)),
      memoryNs: ns(
        90,
        quoted("AnandTech, 'Skylake-EP vs AMD EPYC 7000', 2017: 89 to 91 ns with DDR4-2666"),
      ),
      atomicNs: ns(6, assumed("lock-prefixed operation on an owned line: about 18 cycles")),
      fullFenceNs: ns(8, assumed("lock add on the stack: what smp_mb() is on x86")),
      orderFenceNs: ns(0, assumed("x86 orders stores by itself: a barrier of the compiler only")),
      cpusPerCluster: count(1, assumed("every core has its own L2 and port of the mesh")),
      cpusPerSocket: count(28, assumed("Xeon Platinum 8180, 8280")),
      cacheLines: count(16384, assumed("1 MiB private L2 of 64-byte lines")),
    },
    register: {
      readNs: ns(300, assumed("uncached read of an on-chip device, 250 to 400 ns")),
      writeNs: ns(30, assumed("uncached write, posted")),
    },
    timerTickNs: ns(4e6, quoted("CONFIG_HZ=250 in the amd64 kernels of Debian and Ubuntu")),
  },
  smmu: {
    syncNs: ns(
      900,
      assumed("with fetch and invalidation of the order of the 1.35 us that B06 gives for VT-d"),
    ),
    syncAloneNs: ns(900, assumed("as behind an invalidation: not known apart")),
    invalidateAddressNs: ns(150, assumed("part of the 1.35 us per invalidation of B06")),
  },
});
