/** The status field of a completion, in words (NVM Express Base Specification 2.0, 3.3.3.2.1). */

export interface NvmeStatus {
  /** SCT: what kind of code it is. */
  readonly type: number;
  /** SC. */
  readonly code: number;
  /** Type and code in words. */
  readonly text: string;
  /** DNR: the same command would fail again. */
  readonly doNotRetry: boolean;
}

/** Status code types. */
const TYPES = ["generic", "command specific", "media and data integrity", "path"] as const;

/** Codes by type: those that commands of ours can meet. */
const CODES: readonly Readonly<Record<number, string>>[] = [
  {
    0: "successful completion",
    1: "invalid command opcode",
    2: "invalid field in command",
    3: "command id conflict",
    4: "data transfer error",
    5: "aborted due to power loss",
    6: "internal error",
    7: "abort requested",
    8: "aborted due to submission queue deletion",
    11: "invalid namespace or format",
    12: "command sequence error",
    19: "PRP offset invalid",
    128: "LBA out of range",
    129: "capacity exceeded",
    130: "namespace not ready",
    131: "reservation conflict",
  },
  {
    0: "completion queue invalid",
    1: "invalid queue identifier",
    2: "invalid queue size",
    8: "invalid interrupt vector",
    12: "invalid queue deletion",
    130: "attempted write to read-only range",
  },
  {
    128: "write fault",
    129: "unrecovered read error",
    133: "compare failure",
    134: "access denied",
    135: "deallocated or unwritten block",
  },
  {
    0: "internal path error",
    112: "host pathing error",
    113: "command aborted by host",
  },
];

/** `field` has 15 bits: SC, SCT, CRD, M, DNR from the lowest. */
export function decodeStatus(field: number): NvmeStatus {
  const code = field & 0xff;
  const type = (field >>> 8) & 7;
  const kind = TYPES[type] ?? `type ${type}`;
  const name = CODES[type]?.[code] ?? `code 0x${code.toString(16)}`;
  return { type, code, text: `${name} (${kind})`, doNotRetry: ((field >>> 14) & 1) !== 0 };
}
