/**
 * The fields of a structure as a reader sees them: name, place, value, and what the value means.
 * The layouts come from arch/; the meanings are beside each structure. Owns nothing.
 */

import { type AnyField, type Field, getAddress, getField } from "#arch/smmuv3";

/** One field of a structure that was read. */
export interface FieldView {
  readonly name: string;
  /** Where it lies: `Q1 41:40` is bits 41:40 of the second 64-bit word. */
  readonly bits: string;
  readonly value: number;
  /** What the value means; where nothing is to be said, the value itself. */
  readonly text: string;
}

/** What the values of a field mean: a sentence for each, or a function of the value. */
export type Meaning = readonly string[] | ((value: number) => string);
export type Meanings = Readonly<Record<string, Meaning>>;

/** The fields of the structure that begins at `words[0]`. */
export function viewFields(
  words: Uint32Array,
  fields: Readonly<Record<string, AnyField>>,
  meanings: Meanings,
): FieldView[] {
  return Object.entries(fields).map(([name, of]) => {
    const value = "last" in of ? getAddress(words, 0, of) : getField(words, 0, of);
    return { name, bits: bitsOf(of), value, text: meaningOf(value, meanings[name], "last" in of) };
  });
}

/** `Q0 63:32`, and `Q0 0` for a single bit. */
export function bitsOf(of: AnyField): string {
  const quad = Math.floor(of.word / 2);
  const [first, last] = "last" in of ? [of.first, of.last] : bitRange(of);
  return first === last ? `Q${quad} ${first}` : `Q${quad} ${last}:${first}`;
}

function bitRange(of: Field): [number, number] {
  const first = (of.word % 2) * 32 + of.shift;
  return [first, first + of.width - 1];
}

function meaningOf(value: number, meaning: Meaning | undefined, isAddress: boolean): string {
  if (meaning === undefined) return isAddress || value > 9 ? hex(value) : String(value);
  if (typeof meaning === "function") return meaning(value);
  return meaning[value] ?? "reserved";
}

/** The value of the field with this name; 0 where the structure has none. */
export function fieldValue(fields: readonly FieldView[], name: string): number {
  return fields.find((field) => field.name === name)?.value ?? 0;
}

/** An address or id; what lies in the upper half of 64 bits (a negative number) in full. */
export function hex(value: number): string {
  if (value < 0) return `0x${(BigInt(value) & 0xffff_ffff_ffff_ffffn).toString(16)}`;
  return `0x${value.toString(16)}`;
}

/** A 64-bit word from its halves, with all its digits. */
export function hexWord(lo: number, hi: number): string {
  const digits = (half: number): string => (half >>> 0).toString(16).padStart(8, "0");
  return `0x${digits(hi)}${digits(lo)}`;
}

/** The 64-bit words of a structure. */
export function hexWords(words: Uint32Array): string[] {
  const all: string[] = [];
  for (let at = 0; at + 1 < words.length; at += 2) all.push(hexWord(words[at], words[at + 1]));
  return all;
}

/** 4096 as `4 KiB`, 4097 as `4097 bytes`. */
export function sizeText(bytes: number): string {
  const units = ["bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
  let unit = 0;
  let size = bytes;
  while (size >= 1024 && size % 1024 === 0 && unit < units.length - 1) {
    size /= 1024;
    unit++;
  }
  return unit === 0 && size === 1 ? "1 byte" : `${size} ${units[unit]}`;
}
