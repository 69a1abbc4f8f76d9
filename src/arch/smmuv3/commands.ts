/**
 * Commands, 16 bytes each (Arm IHI 0070, chapter 4): opcodes, fields, decoding.
 *
 * `encode*` write the four words of a command into a queue image and allocate nothing;
 * they are in encode-commands.ts. `decodeCommand` makes an object, for logs and tests.
 */

import { addressField, field, quadField } from "../field.js";
import { type RecordFields, readFields } from "./record.js";

export const Opcode = {
  PREFETCH_CONFIG: 0x01,
  PREFETCH_ADDR: 0x02,
  CFGI_STE: 0x03,
  /** With Range 31 this is CFGI_ALL. */
  CFGI_STE_RANGE: 0x04,
  CFGI_CD: 0x05,
  CFGI_CD_ALL: 0x06,
  TLBI_NH_ALL: 0x10,
  TLBI_NH_ASID: 0x11,
  TLBI_NH_VA: 0x12,
  TLBI_NH_VAA: 0x13,
  TLBI_EL3_ALL: 0x18,
  TLBI_EL3_VA: 0x1a,
  TLBI_EL2_ALL: 0x20,
  TLBI_EL2_ASID: 0x21,
  TLBI_EL2_VA: 0x22,
  TLBI_EL2_VAA: 0x23,
  TLBI_S12_VMALL: 0x28,
  TLBI_S2_IPA: 0x2a,
  TLBI_NSNH_ALL: 0x30,
  ATC_INV: 0x40,
  PRI_RESP: 0x41,
  RESUME: 0x44,
  STALL_TERM: 0x45,
  SYNC: 0x46,
} as const;
export type OpcodeName = keyof typeof Opcode;
export type Opcode = (typeof Opcode)[OpcodeName];

/** Every field that some command has. */
export const CommandField = {
  opcode: quadField(0, 7, 0),
  /** Global, of ATC_INV. */
  global: quadField(0, 9, 9),
  /** SSec: the StreamID is a secure one. */
  secure: quadField(0, 10, 10),
  substreamValid: quadField(0, 11, 11),
  substreamId: quadField(0, 31, 12),
  streamId: quadField(0, 63, 32),
  num: quadField(0, 16, 12),
  scale: quadField(0, 24, 20),
  vmid: quadField(0, 47, 32),
  asid: quadField(0, 63, 48),
  leaf: quadField(1, 0, 0),
  ttl: quadField(1, 9, 8),
  tg: quadField(1, 11, 10),
  /** A virtual address: all bits up to 63. */
  addr: addressField(1, 63, 12),
  /** An intermediate physical address. */
  ipa: addressField(1, 51, 12),
  /** log2 of (number of StreamIDs) - 1, of CFGI_STE_RANGE. */
  range: quadField(1, 4, 0),
  /** log2 of the 4 KiB pages, of ATC_INV. */
  size: quadField(1, 5, 0),
  groupId: quadField(1, 8, 0),
  pageResponse: quadField(1, 13, 12),
  resumeResponse: quadField(0, 13, 12),
  stallTag: quadField(1, 15, 0),
  signal: quadField(0, 13, 12),
  msiShareability: quadField(0, 23, 22),
  msiAttributes: quadField(0, 27, 24),
  msiData: field(1, 0, 32),
  msiAddress: addressField(1, 51, 2),
} as const;

const F = CommandField;
const noFields = {} as const;
const substream = {
  substreamValid: F.substreamValid,
  substreamId: F.substreamId,
  streamId: F.streamId,
} as const;
const range = { num: F.num, scale: F.scale } as const;
const rangeAddress = { leaf: F.leaf, ttl: F.ttl, tg: F.tg, addr: F.addr } as const;

/** Fields by command, besides the opcode and SSec. */
export const COMMAND_FIELDS = {
  PREFETCH_CONFIG: substream,
  PREFETCH_ADDR: { ...substream, size: quadField(1, 4, 0), addr: F.addr },
  CFGI_STE: { streamId: F.streamId, leaf: F.leaf },
  CFGI_STE_RANGE: { streamId: F.streamId, range: F.range },
  CFGI_CD: { substreamId: F.substreamId, streamId: F.streamId, leaf: F.leaf },
  CFGI_CD_ALL: { streamId: F.streamId },
  TLBI_NH_ALL: { vmid: F.vmid },
  TLBI_NH_ASID: { vmid: F.vmid, asid: F.asid },
  TLBI_NH_VA: { ...range, vmid: F.vmid, asid: F.asid, ...rangeAddress },
  TLBI_NH_VAA: { ...range, vmid: F.vmid, ...rangeAddress },
  TLBI_EL3_ALL: noFields,
  TLBI_EL3_VA: { ...range, ...rangeAddress },
  TLBI_EL2_ALL: noFields,
  TLBI_EL2_ASID: { asid: F.asid },
  TLBI_EL2_VA: { ...range, asid: F.asid, ...rangeAddress },
  TLBI_EL2_VAA: { ...range, ...rangeAddress },
  TLBI_S12_VMALL: { vmid: F.vmid },
  TLBI_S2_IPA: { ...range, vmid: F.vmid, leaf: F.leaf, ttl: F.ttl, tg: F.tg, ipa: F.ipa },
  TLBI_NSNH_ALL: noFields,
  ATC_INV: { global: F.global, ...substream, size: F.size, addr: F.addr },
  PRI_RESP: { ...substream, groupId: F.groupId, pageResponse: F.pageResponse },
  RESUME: { resumeResponse: F.resumeResponse, streamId: F.streamId, stallTag: F.stallTag },
  STALL_TERM: { streamId: F.streamId },
  SYNC: {
    signal: F.signal,
    msiShareability: F.msiShareability,
    msiAttributes: F.msiAttributes,
    msiData: F.msiData,
    msiAddress: F.msiAddress,
  },
} as const satisfies Record<OpcodeName, RecordFields>;

/** CS of CMD_SYNC: how completion is announced, besides CONS moving on. */
export const SyncSignal = { none: 0, interrupt: 1, event: 2 } as const;

/**
 * RESP of CMD_PRI_RESP, by Linux's names (4.5.2): Response Failure, Invalid Request, Success.
 */
export const PageResponse = { deny: 0, failure: 1, success: 2 } as const;
export type PageResponse = (typeof PageResponse)[keyof typeof PageResponse];
/**
 * RESP of CMD_RESUME, by Linux's names (4.7.1): the bits Ac and Ab. With `terminate` reads
 * return zeros and writes do nothing, where IDR0.TERM_MODEL allows that.
 */
export const ResumeResponse = { terminate: 0, retry: 1, abort: 2 } as const;
export type ResumeResponse = (typeof ResumeResponse)[keyof typeof ResumeResponse];
/** Range of CFGI_STE_RANGE that means all StreamIDs. */
export const RANGE_ALL = 31;
/** Size of ATC_INV that means the whole address space. */
export const ATC_SIZE_ALL = 52;

type CommandOf<Name extends OpcodeName> = {
  readonly name: `CMD_${Name}`;
  readonly opcode: (typeof Opcode)[Name];
} & { readonly [Key in keyof (typeof COMMAND_FIELDS)[Name]]: number };

/** A command that the architecture defines, discriminated by `name`. */
export type KnownCommand = { [Name in OpcodeName]: CommandOf<Name> }[OpcodeName];

/** What four words may hold: also opcodes that nobody defined. */
export type Command =
  | KnownCommand
  | { readonly name: "unknown"; readonly opcode: number; readonly words: readonly number[] };

const NAME_BY_OPCODE = new Map<number, OpcodeName>(
  (Object.keys(Opcode) as OpcodeName[]).map((name) => [Opcode[name], name]),
);

/** `TLBI_NH_VA` and so on; undefined when the opcode is not defined. */
export function opcodeName(opcode: number): OpcodeName | undefined {
  return NAME_BY_OPCODE.get(opcode);
}

export function decodeCommand(words: Uint32Array, offset: number): Command {
  const opcode = words[offset] & 0xff;
  const name = NAME_BY_OPCODE.get(opcode);
  if (name === undefined) {
    return { name: "unknown", opcode, words: Array.from(words.subarray(offset, offset + 4)) };
  }
  const fields = readFields(words, offset, COMMAND_FIELDS[name]);
  // The table above is what both the type and the fields are made from.
  return { name: `CMD_${name}`, opcode, ...fields } as unknown as KnownCommand;
}

/** Number of opcodes: a table by opcode has this many slots. */
export const OPCODE_COUNT = 256;
