/** Event records in plain words (Arm IHI 0070, 7.3). The layouts are arch/'s. */

import { EVENT_FIELDS, EventField, type EventName, eventName, type Field } from "#arch/smmuv3";
import { type FieldView, hex, type Meanings, viewFields } from "./fields.js";

const EVENT_MEANINGS: Meanings = {
  substreamValid: ["no SubstreamID came with it", "the SubstreamID is valid"],
  substreamId: (value) => `SubstreamID (PASID) ${hex(value)}`,
  streamId: (value) => `StreamID ${hex(value)}`,
  stallTag: (value) => `stall tag ${hex(value)}`,
  reason: (value) => (value === 0 ? "no reason given" : `implementation's reason ${hex(value)}`),
  stall: ["the transaction was terminated", "the transaction is stalled until CMD_RESUME"],
  privileged: ["unprivileged", "privileged"],
  instruction: ["data", "instruction"],
  read: ["write", "read"],
  stage2: ["the fault is stage 1's", "the fault is stage 2's"],
  faultClass: [
    "while a context descriptor was fetched",
    "while a translation table was fetched",
    "the input address itself",
    "reserved",
  ],
  tableRead: ["the table access was a write (or none)", "the table access was a read"],
  inputAddress: (value) => `input address ${hex(value)}`,
  ipa: (value) => `intermediate physical address ${hex(value)}`,
  fetchAddress: (value) => `the fetch was from ${hex(value)}`,
};

export interface EventView {
  readonly type: number;
  /** Undefined: the architecture does not define the type. */
  readonly name: EventName | undefined;
  readonly fields: readonly FieldView[];
}

/** The event record in the first eight words. */
export function viewEvent(words: Uint32Array): EventView {
  const type = words[0] & 0xff;
  const name = eventName(type);
  const own = name === undefined ? EVERY_FIELD : EVENT_FIELDS[name];
  const typeText = name === undefined ? () => "not defined by the architecture" : () => name;
  const fields = viewFields(
    words,
    { type: EventField.type, ...own },
    { ...EVENT_MEANINGS, type: typeText },
  );
  return { type, name, fields };
}

/** Of a type that nobody knows: what all events have. */
const EVERY_FIELD: Readonly<Record<string, Field>> = {
  substreamValid: EventField.substreamValid,
  substreamId: EventField.substreamId,
  streamId: EventField.streamId,
};
