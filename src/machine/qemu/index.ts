/**
 * The machine whose memory and devices are QEMU's. A door of its own, as it alone in this room
 * needs Node.
 */

export { QemuError, type QemuErrorCode } from "./errors.js";
export {
  findQemu,
  howToInstall,
  isOlder as isOlderQemu,
  QEMU_VERSION_MIN,
  QEMU_VERSION_NESTING,
  type QemuBinary,
  type QemuTarget,
  type QemuVersion,
  whyNoQemu,
} from "./find.js";
export { type QemuMachine, type QemuOptions, startQemu } from "./qemu-machine.js";
export type { QtestClient, ReplySink } from "./qtest-client.js";
export { VIRT_BOARD, virtBoard } from "./virt.js";
