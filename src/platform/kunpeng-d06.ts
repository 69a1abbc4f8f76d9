/**
 * `kunpeng-d06`: HiSilicon D06, two Kunpeng 920 (hi1620) of 48 cores: the machine of most
 * published measurements of SMMUv3 under contention.
 */

import { extendProfile } from "./extend.js";
import { genericArm } from "./generic-arm.js";
import { assumed, count, quoted } from "./quantity.js";

export const kunpengD06 = extendProfile(genericArm, {
  name: "kunpeng-d06",
  description: "HiSilicon D06: two sockets, 96 CPUs, clusters of four, SMMUv3 with MSIs",
  system: {
    cpus: count(
      96,
      quoted("'arm-smmu-v3 high cpu usage for NVMe', kernel list, 2020: D06 with 96 CPUs (A07)"),
    ),
    smmus: count(1, assumed("the measurements are of devices behind one SMMU")),
  },
  machine: {
    cpu: {
      cpusPerSocket: count(48, assumed("96 CPUs on two sockets")),
    },
  },
});
