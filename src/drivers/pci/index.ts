/** PCI configuration: enumeration, BARs, bus mastering. */

export { requesterId, requesterIdOf } from "./config-space.js";
export {
  enableBusMaster,
  enumeratePci,
  findFunction,
  type PciBar,
  type PciBus,
  type PciFunction,
  PciWindowError,
} from "./enumerate.js";
