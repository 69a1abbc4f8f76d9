/**
 * Event records, 32 bytes (Arm IHI 0070, chapter 7.3): types and their fields.
 *
 * A record is a discriminated union by `name`; which fields it has follows from one table.
 */

import { addressField, quadField } from "../field.js";
import { EVENT_WORDS } from "./queue.js";
import { type RecordFields, readFields, writeFields } from "./record.js";

export const EventType = {
  /** Unsupported upstream transaction. */
  F_UUT: 0x01,
  C_BAD_STREAMID: 0x02,
  F_STE_FETCH: 0x03,
  C_BAD_STE: 0x04,
  F_BAD_ATS_TREQ: 0x05,
  F_STREAM_DISABLED: 0x06,
  F_TRANSL_FORBIDDEN: 0x07,
  C_BAD_SUBSTREAMID: 0x08,
  F_CD_FETCH: 0x09,
  C_BAD_CD: 0x0a,
  F_WALK_EABT: 0x0b,
  F_TRANSLATION: 0x10,
  F_ADDR_SIZE: 0x11,
  F_ACCESS: 0x12,
  F_PERMISSION: 0x13,
  F_TLB_CONFLICT: 0x20,
  F_CFG_CONFLICT: 0x21,
  E_PAGE_REQUEST: 0x24,
  F_VMS_FETCH: 0x25,
} as const;
export type EventName = keyof typeof EventType;
export type EventType = (typeof EventType)[EventName];

/** CLASS: what was being accessed when a translation-related fault arose. */
export const FaultClass = { contextDescriptor: 0, translationTable: 1, input: 2 } as const;
export type FaultClass = (typeof FaultClass)[keyof typeof FaultClass];

/** Every field that some event has. */
export const EventField = {
  type: quadField(0, 7, 0),
  substreamValid: quadField(0, 11, 11),
  substreamId: quadField(0, 31, 12),
  streamId: quadField(0, 63, 32),
  stallTag: quadField(1, 15, 0),
  /** Implementation's reason of a fetch abort or an unsupported transaction. */
  reason: quadField(1, 15, 0),
  stall: quadField(1, 31, 31),
  /** PnU: 1 = privileged. */
  privileged: quadField(1, 33, 33),
  /** InD: 1 = instruction. */
  instruction: quadField(1, 34, 34),
  /** RnW: 1 = read. */
  read: quadField(1, 35, 35),
  /** S2: the fault is stage 2's. */
  stage2: quadField(1, 39, 39),
  faultClass: quadField(1, 41, 40),
  /** TTRnW: the table access that was not permitted was a read; F_PERMISSION of class 1 only. */
  tableRead: quadField(1, 44, 44),
  /** Of a translation request: smallest translation units, and what it asks for. */
  span: quadField(1, 3, 0),
  asksPrivileged: quadField(1, 28, 28),
  asksExecute: quadField(1, 29, 29),
  asksWrite: quadField(1, 30, 30),
  asksRead: quadField(1, 31, 31),
  /** Input address, all 64 bits; the upper half is negative. */
  inputAddress: addressField(2, 63, 0),
  ipa: addressField(3, 51, 12),
  fetchAddress: addressField(3, 51, 3),
} as const;

const E = EventField;
const stream = { streamId: E.streamId } as const;
const substream = {
  substreamValid: E.substreamValid,
  substreamId: E.substreamId,
  streamId: E.streamId,
} as const;
const access = { privileged: E.privileged, instruction: E.instruction, read: E.read } as const;
const input = { inputAddress: E.inputAddress } as const;
const fetch = { reason: E.reason, fetchAddress: E.fetchAddress } as const;
const translation = {
  ...substream,
  ...access,
  stage2: E.stage2,
  faultClass: E.faultClass,
  ...input,
} as const;
/** Faults that may stall, and that name the output of stage 1 when stage 2 faults. */
const stallable = {
  ...translation,
  tableRead: E.tableRead,
  stallTag: E.stallTag,
  stall: E.stall,
  ipa: E.ipa,
} as const;

/** Fields by event, besides the type. */
export const EVENT_FIELDS = {
  F_UUT: { ...substream, reason: E.reason, ...access, ...input },
  C_BAD_STREAMID: substream,
  F_STE_FETCH: { ...substream, ...fetch },
  C_BAD_STE: substream,
  F_BAD_ATS_TREQ: {
    ...substream,
    span: E.span,
    asksPrivileged: E.asksPrivileged,
    asksExecute: E.asksExecute,
    asksWrite: E.asksWrite,
    asksRead: E.asksRead,
    ...input,
  },
  F_STREAM_DISABLED: stream,
  F_TRANSL_FORBIDDEN: { ...stream, read: E.read, ...input },
  // The SubstreamID is always there: no SSV says so (7.3.9).
  C_BAD_SUBSTREAMID: { substreamId: E.substreamId, streamId: E.streamId },
  F_CD_FETCH: { ...substream, ...fetch },
  C_BAD_CD: substream,
  F_WALK_EABT: { ...translation, ...fetch },
  F_TRANSLATION: stallable,
  F_ADDR_SIZE: stallable,
  F_ACCESS: stallable,
  F_PERMISSION: stallable,
  F_TLB_CONFLICT: { ...substream, reason: E.reason, ...access, stage2: E.stage2, ...input },
  F_CFG_CONFLICT: { ...substream, reason: E.reason },
  E_PAGE_REQUEST: { ...substream, ...input },
  F_VMS_FETCH: { ...substream, ...fetch },
} as const satisfies Record<EventName, RecordFields>;

type EventOf<Name extends EventName> = { readonly name: Name } & {
  readonly [Key in keyof (typeof EVENT_FIELDS)[Name]]: number;
};

/** An event that the architecture defines, discriminated by `name`. */
export type KnownEvent = { [Name in EventName]: EventOf<Name> }[EventName];

/** What eight words may hold. */
export type EventRecord =
  | KnownEvent
  | { readonly name: "unknown"; readonly type: number; readonly words: readonly number[] };

const NAME_BY_TYPE = new Map<number, EventName>(
  (Object.keys(EventType) as EventName[]).map((name) => [EventType[name], name]),
);

/** `F_TRANSLATION` and so on; undefined when the type is not defined. */
export function eventName(type: number): EventName | undefined {
  return NAME_BY_TYPE.get(type);
}

export function decodeEvent(words: Uint32Array, offset: number): EventRecord {
  const type = words[offset] & 0xff;
  const name = NAME_BY_TYPE.get(type);
  if (name === undefined) {
    const copy = Array.from(words.subarray(offset, offset + EVENT_WORDS));
    return { name: "unknown", type, words: copy };
  }
  // The table above is what both the type and the fields are made from.
  return { name, ...readFields(words, offset, EVENT_FIELDS[name]) } as unknown as KnownEvent;
}

/** Writes the eight words of a record. */
export function encodeEvent(words: Uint32Array, offset: number, event: KnownEvent): void {
  words.fill(0, offset, offset + EVENT_WORDS);
  words[offset] = EventType[event.name];
  writeFields(words, offset, EVENT_FIELDS[event.name], event);
}
