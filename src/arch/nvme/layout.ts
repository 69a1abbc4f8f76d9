/**
 * Layouts of what lies in memory, for driver and controller: commands, completions, and the
 * fields that we use of the identify data (NVM Express Base Specification 2.0; NVM Command Set
 * Specification 1.0).
 */

/** A submission queue entry has 16 words (Base 3.3.3.1). */
export const COMMAND_BYTES = 64;
export const COMMAND_WORDS = COMMAND_BYTES / 4;
/** A completion queue entry has 4 words (Base 3.3.3.2). */
export const COMPLETION_BYTES = 16;

/** Words of a command. */
export const CommandWord = {
  /** Opcode in bits 7:0, command identifier in bits 31:16. */
  head: 0,
  namespaceId: 1,
  /** 64 bits each. */
  prp1: 6,
  prp2: 8,
  cdw10: 10,
  cdw11: 11,
  cdw12: 12,
} as const;

/** Opcodes of admin commands (Base 5). */
export const AdminOpcode = {
  deleteSubmissionQueue: 0x00,
  createSubmissionQueue: 0x01,
  deleteCompletionQueue: 0x04,
  createCompletionQueue: 0x05,
  identify: 0x06,
  setFeatures: 0x09,
} as const;

/** Opcodes of the NVM command set (NVM 3.2; flush: Base 7). */
export const IoOpcode = { flush: 0x00, write: 0x01, read: 0x02 } as const;

/** Bytes of a completion. */
export const CompletionOffset = {
  /** Word 0: what the command returns. */
  result: 0,
  /** Word 3: command identifier in bits 15:0, phase in bit 16, status above. */
  status: 12,
} as const;

export function commandIdOf(statusWord: number): number {
  return statusWord & 0xffff;
}

export function phaseOf(statusWord: number): number {
  return (statusWord >>> 16) & 1;
}

/** The 15 bits of the status field; 0 is success. */
export function statusFieldOf(statusWord: number): number {
  return statusWord >>> 17;
}

/** Sets words `word` and `word + 1` of a command or PRP list to a 64-bit value. */
export function setQuad(words: Uint32Array, word: number, value: number): void {
  // Conversion to 32 bits takes a number below 2^53 modulo 2^32.
  words[word] = value;
  words[word + 1] = Math.floor(value / 2 ** 32);
}

/** The status field of a completion that has this type and code (Base 3.3.3.2.1). */
export function statusField(type: number, code: number, doNotRetry: boolean): number {
  return code | (type << 8) | (doNotRetry ? 1 << 14 : 0);
}

/** CNS of the identify command (Base 5.17.1). */
export const IdentifyWhat = { namespace: 0x00, controller: 0x01 } as const;
export const IDENTIFY_BYTES = 4096;

/** Feature identifier 07h: number of queues (Base 5.27.1.5). */
export const FEATURE_QUEUE_COUNT = 0x07;

/** Feature identifier 08h: interrupt coalescing (Base 5.27.1.6). */
export const FEATURE_INTERRUPT_COALESCING = 0x08;
/** TIME counts these. */
export const COALESCING_TIME_UNIT_NS = 100_000;

/** Flags in word 11 of the create commands (Base 5.4, 5.5): the queue is contiguous. */
export const QUEUE_CONTIGUOUS = 1 << 0;
/** And, of a completion queue: it interrupts, with the vector in bits 31:16. */
export const QUEUE_INTERRUPTS = 1 << 1;

/** Identify controller, CNS 01h (Base 5.17.2.1). */
export interface ControllerIdentity {
  readonly serialNumber: string;
  readonly modelNumber: string;
  readonly firmwareRevision: string;
  /** MDTS: largest transfer in units of the smallest page, as a power of two; 0: no limit. */
  readonly transferPagesLg2: number;
  /** NN: the highest namespace identifier. */
  readonly namespaceIdMax: number;
  /** VWC: there is a volatile write cache, so flush has something to do. */
  readonly volatileWriteCache: boolean;
}

export function decodeController(bytes: Uint8Array): ControllerIdentity {
  const view = viewOf(bytes);
  return {
    serialNumber: ascii(bytes, 4, 20),
    modelNumber: ascii(bytes, 24, 40),
    firmwareRevision: ascii(bytes, 64, 8),
    transferPagesLg2: view.getUint8(77),
    namespaceIdMax: view.getUint32(516, true),
    volatileWriteCache: (view.getUint8(525) & 1) !== 0,
  };
}

/** Fills in what a controller says of itself; the rest stays 0. */
export function encodeController(bytes: Uint8Array, identity: ControllerIdentity): void {
  const view = viewOf(bytes);
  putAscii(bytes, 4, 20, identity.serialNumber);
  putAscii(bytes, 24, 40, identity.modelNumber);
  putAscii(bytes, 64, 8, identity.firmwareRevision);
  view.setUint8(77, identity.transferPagesLg2);
  // SQES and CQES: entries of 2^6 and 2^4 bytes, both required and largest.
  view.setUint8(512, 0x66);
  view.setUint8(513, 0x44);
  view.setUint32(516, identity.namespaceIdMax, true);
  view.setUint8(525, identity.volatileWriteCache ? 1 : 0);
}

/** Identify namespace, CNS 00h (NVM 4.1.5.1). */
export interface NamespaceIdentity {
  /** NSZE; 0 for a namespace that is not there. */
  readonly blockCount: number;
  readonly blockBytes: number;
  /** MS of the format in use: bytes of metadata with each block. */
  readonly metadataBytes: number;
}

/** Formats that the low bits of FLBAS can tell apart; with more, bits 6:5 are the upper ones. */
const LOW_FORMATS = 16;
/** LBAF0. */
const FORMATS_OFFSET = 128;

export function decodeNamespace(bytes: Uint8Array): NamespaceIdentity {
  const view = viewOf(bytes);
  const formatsLast = view.getUint8(25);
  const inUse = view.getUint8(26);
  const upper = formatsLast >= LOW_FORMATS ? (inUse >>> 5) & 3 : 0;
  const format = view.getUint32(FORMATS_OFFSET + 4 * ((upper << 4) | (inUse & 0xf)), true);
  return {
    blockCount: view.getUint32(0, true) + view.getUint32(4, true) * 2 ** 32,
    blockBytes: 2 ** ((format >>> 16) & 0xff),
    metadataBytes: format & 0xffff,
  };
}

/** Fills in a namespace of one format, all of it allocated. */
export function encodeNamespace(bytes: Uint8Array, identity: NamespaceIdentity): void {
  const { blockCount, blockBytes, metadataBytes } = identity;
  const view = viewOf(bytes);
  // NSZE, NCAP, NUSE.
  for (const offset of [0, 8, 16]) {
    view.setUint32(offset, blockCount >>> 0, true);
    view.setUint32(offset + 4, Math.floor(blockCount / 2 ** 32), true);
  }
  view.setUint32(FORMATS_OFFSET, (Math.log2(blockBytes) << 16) | metadataBytes, true);
}

/** The 64-bit value in words `word` and `word + 1`; addresses are below 2^53. */
export function quadOf(words: Uint32Array, word: number): number {
  return words[word] + words[word + 1] * 2 ** 32;
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** Text is padded with blanks. */
function ascii(bytes: Uint8Array, offset: number, sizeBytes: number): string {
  return String.fromCharCode(...bytes.subarray(offset, offset + sizeBytes)).trimEnd();
}

function putAscii(bytes: Uint8Array, offset: number, sizeBytes: number, text: string): void {
  for (let index = 0; index < sizeBytes; index++) {
    bytes[offset + index] = index < text.length ? text.charCodeAt(index) : 0x20;
  }
}
