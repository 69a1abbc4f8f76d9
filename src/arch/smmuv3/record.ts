/**
 * Records described by data: named fields of a command or an event, read into an object
 * and written from one. For logs, tests and events; hot paths use positional encoders.
 */

import {
  type AddressField,
  type AnyField,
  getAddress,
  getField,
  setAddress,
  setField,
} from "../field.js";

export type RecordFields = Readonly<Record<string, AnyField>>;

export function isAddressField(of: AnyField): of is AddressField {
  return "last" in of;
}

/** The fields of `words` as an object with the names of `fields`. */
export function readFields(
  words: Uint32Array,
  offset: number,
  fields: RecordFields,
): Record<string, number> {
  const values: Record<string, number> = {};
  for (const [name, of] of Object.entries(fields)) {
    values[name] = isAddressField(of) ? getAddress(words, offset, of) : getField(words, offset, of);
  }
  return values;
}

/** Writes the fields that `values` has; the others keep what the words hold. */
export function writeFields(
  words: Uint32Array,
  offset: number,
  fields: RecordFields,
  values: Readonly<Record<string, number | string>>,
): void {
  for (const [name, of] of Object.entries(fields)) {
    const value = values[name];
    if (typeof value !== "number") continue;
    if (isAddressField(of)) setAddress(words, offset, of, value);
    else setField(words, offset, of, value);
  }
}
