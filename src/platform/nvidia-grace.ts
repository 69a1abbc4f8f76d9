/** `nvidia-grace`: two Grace CPUs of 72 Neoverse V2 cores, SMMUv3.2, PCIe 5. */

import { extendProfile } from "./extend.js";
import { genericArm } from "./generic-arm.js";
import { assumed, bytesPerNs, count, fitted, flag, ns, quoted } from "./quantity.js";

const TUNING_GUIDE = "NVIDIA, Grace Performance Tuning Guide: 1 MB of L2 per core";
const GH200 = "Chips and Cheese, 'Grace Hopper, Nvidia's Halfway APU', 2024";
const DATA_SHEET = quoted("NVIDIA Grace CPU Superchip data sheet: 2 x 72 Neoverse V2 cores");

export const nvidiaGrace = extendProfile(genericArm, {
  name: "nvidia-grace",
  description: "NVIDIA Grace, two sockets of 72 CPUs, one SMMUv3 per socket's root port",
  system: {
    cpus: count(144, DATA_SHEET),
    smmus: count(2, quoted("8 NVMe drives, 4 per socket behind one root port per socket (B01)")),
    // Linux may use the SMMU's further queues (CMDQV) instead, two or more that CPUs share by
    // their numbers, and whose CMD_SYNCs it polls (tegra241-cmdqv.c): not modelled.
    syncByMsi: flag(1, assumed("Linux uses MSIs where the SMMU has them and is coherent")),
  },
  machine: {
    cpu: {
      hitNs: ns(1, assumed("L1 hit of 4 cycles at 3.1 to 3.44 GHz")),
      cpusPerCluster: count(1, quoted(`${GH200}: a mesh with cores at its stops`)),
      cpusPerSocket: count(72, DATA_SHEET),
      cacheLines: count(16384, quoted(TUNING_GUIDE)),
      // Undisturbed it is like Graviton 4 (GH200), and that takes 30 to 60 ns (Chips and Cheese,
      // "Arm's Neoverse V2, in AWS's Graviton 4", 2024). Under contention a Kunpeng's die takes
      // 2.1 times as long as undisturbed: 94 here. docs/published.md shows B01-03 with each.
      socketTransferNs: ns(
        66,
        assumed("between 45 undisturbed and 94 by Kunpeng's ratio; chosen with B01-03 in view"),
      ),
      remoteTransferNs: ns(250, assumed("over NVLink-C2C to the other socket")),
    },
  },
  nvme: {
    // The source says 1.7 to 2M reads per second and drive.
    commandNs: ns(480, fitted("B01-01, 16.5M IOPS from 8 drives in passthrough: 2.06M each")),
    channels: count(256, assumed("a PCIe 5 drive: enough for 2M reads per second")),
  },
  link: {
    bandwidth: bytesPerNs(13.6, assumed("PCIe 5.0 x4: 15.8 GB/s less headers")),
  },
});
