/** `nvidia-grace`: two Grace CPUs of 72 Neoverse V2 cores, SMMUv3.2, PCIe 5. */

import { extendProfile } from "./extend.js";
import { genericArm } from "./generic-arm.js";
import { assumed, bytesPerNs, count, fitted, flag, ns, quoted } from "./quantity.js";

const DATA_SHEET = quoted("NVIDIA Grace CPU Superchip data sheet: 2 x 72 Neoverse V2 cores");

export const nvidiaGrace = extendProfile(genericArm, {
  name: "nvidia-grace",
  description: "NVIDIA Grace, two sockets of 72 CPUs, one SMMUv3 per socket's root port",
  system: {
    cpus: count(144, DATA_SHEET),
    smmus: count(2, quoted("8 NVMe drives, 4 per socket behind one root port per socket (B01)")),
    syncByMsi: flag(1, assumed("its MMU-700 offers MSIs, and Linux uses them")),
  },
  machine: {
    cpu: {
      hitNs: ns(1, assumed("L1 hit of 4 cycles at 3.1 to 3.4 GHz")),
      cpusPerCluster: count(1, assumed("Neoverse V2: every core with its own port of the mesh")),
      cpusPerSocket: count(72, DATA_SHEET),
      cacheLines: count(16384, assumed("1 MiB private L2 of 64-byte lines")),
      socketTransferNs: ns(
        66,
        assumed(
          "the 84 ns that Kunpeng is fitted to at 2.6 GHz, at 3.35 GHz; chosen with B01-03 in view",
        ),
      ),
      remoteTransferNs: ns(250, assumed("over NVLink-C2C to the other socket")),
    },
  },
  nvme: {
    commandNs: ns(480, fitted("B01-01, 16.5M IOPS from 8 drives in passthrough: 2.06M each")),
    channels: count(256, assumed("a PCIe 5 drive: enough for 2M reads per second")),
  },
  link: {
    bandwidth: bytesPerNs(13.6, assumed("PCIe 5.0 x4: 15.8 GB/s less headers")),
  },
});
