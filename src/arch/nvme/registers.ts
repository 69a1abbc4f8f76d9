/**
 * Registers of an NVMe controller (NVM Express Base Specification 2.0, 3.1.3; doorbells: NVMe
 * over PCIe Transport Specification 1.0, 3.1.2).
 */

/** Offsets from the start of BAR 0. */
export const Register = {
  /** CAP, 64 bits (3.1.3.1). */
  capabilities: 0x00,
  /** VS (3.1.3.2). */
  version: 0x08,
  /** INTMS: ones mask interrupt vectors (3.1.3.3). */
  interruptMaskSet: 0x0c,
  /** INTMC: ones unmask (3.1.3.4). */
  interruptMaskClear: 0x10,
  /** CC (3.1.3.5). */
  configuration: 0x14,
  /** CSTS (3.1.3.6). */
  status: 0x1c,
  /** AQA (3.1.3.8). */
  adminQueueAttributes: 0x24,
  /** ASQ, 64 bits (3.1.3.9). */
  adminSubmissionQueue: 0x28,
  /** ACQ, 64 bits (3.1.3.10). */
  adminCompletionQueue: 0x30,
  doorbells: 0x1000,
} as const;

/** CAP, decoded. */
export interface Capabilities {
  /** MQES: entries of an I/O queue at most. */
  readonly queueEntriesMax: number;
  /** TO: how long enabling and disabling may take. */
  readonly readyTimeoutNs: number;
  /** DSTRD: bytes from one doorbell to the next. */
  readonly doorbellStrideBytes: number;
  /** CSS bit 0: the NVM command set. */
  readonly nvmCommandSet: boolean;
  /** MPSMIN: the smallest page that PRPs can be made of. */
  readonly pageBytesMin: number;
}

/** TO counts units of 500 ms. */
const READY_TIMEOUT_UNIT_NS = 500e6;
/** MPSMIN counts from 2^12. */
const PAGE_LG2_MIN = 12;

export function decodeCapabilities(lo: number, hi: number): Capabilities {
  return {
    // MQES is 0's based.
    queueEntriesMax: (lo & 0xffff) + 1,
    readyTimeoutNs: (lo >>> 24) * READY_TIMEOUT_UNIT_NS,
    doorbellStrideBytes: 4 << (hi & 0xf),
    // CSS is bits 44:37, MPSMIN bits 51:48.
    nvmCommandSet: (hi & (1 << 5)) !== 0,
    pageBytesMin: 2 ** (PAGE_LG2_MIN + ((hi >>> 16) & 0xf)),
  };
}

/** CAP, as two halves. Queues are contiguous (CQR); pages are of the smallest size only. */
export function encodeCapabilities(capabilities: Capabilities): readonly [number, number] {
  const { queueEntriesMax, readyTimeoutNs, doorbellStrideBytes } = capabilities;
  const timeout = Math.ceil(readyTimeoutNs / READY_TIMEOUT_UNIT_NS);
  const lo = ((queueEntriesMax - 1) | (1 << 16) | (timeout << 24)) >>> 0;
  const page = Math.log2(capabilities.pageBytesMin) - PAGE_LG2_MIN;
  const nvm = capabilities.nvmCommandSet ? 1 << 5 : 0;
  const hi = Math.log2(doorbellStrideBytes / 4) | nvm | (page << 16) | (page << 20);
  return [lo, hi >>> 0];
}

/** AQA for queues of `entries` each: 12 bits per queue, 0's based. */
export function adminQueueAttributes(entries: number): number {
  return ((entries - 1) << 16) | (entries - 1);
}

/** Fields of CC. Arbitration is round robin and the command set NVM: both are 0. */
export const Configuration = {
  enable: 1 << 0,
  /** MPS: pages of 4 KiB. */
  pages4K: 0 << 7,
  /** SHN: normal shutdown. */
  shutdownNormal: 1 << 14,
  shutdownMask: 3 << 14,
  /** IOSQES and IOCQES: entries of 2^6 and 2^4 bytes, the only sizes of the NVM command set. */
  entrySizes: (6 << 16) | (4 << 20),
} as const;

/** Fields of CSTS. */
export const Status = {
  ready: 1 << 0,
  /** CFS: nothing but a reset helps. */
  fatal: 1 << 1,
  /** SHST. */
  shutdownMask: 3 << 2,
  shutdownComplete: 2 << 2,
} as const;

/** VS as people write it. */
export function versionText(version: number): string {
  return `${version >>> 16}.${(version >>> 8) & 0xff}.${version & 0xff}`;
}

/** Where the new tail of a submission queue is written. */
export function submissionDoorbell(
  registers: number,
  queueId: number,
  strideBytes: number,
): number {
  return registers + Register.doorbells + 2 * queueId * strideBytes;
}

/** Where the new head of a completion queue is written. */
export function completionDoorbell(
  registers: number,
  queueId: number,
  strideBytes: number,
): number {
  return registers + Register.doorbells + (2 * queueId + 1) * strideBytes;
}
