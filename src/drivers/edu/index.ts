/** QEMU's educational device as a DMA engine. */

export {
  EDU_BUFFER_BYTES,
  EDU_DEVICE_ID,
  EDU_VENDOR_ID,
  EduTimeoutError,
  eduRead,
  eduWrite,
} from "./edu.js";
