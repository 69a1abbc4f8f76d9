/**
 * Bit fields of architected structures, as data.
 *
 * A structure is a run of little-endian 32-bit words in a `Uint32Array`, at some
 * offset (in words). A `Field` lies within one word; an `AddressField` is the only
 * kind that goes across two. Nothing here allocates.
 */

/** Bits `shift + width - 1 : shift` of the 32-bit word with index `word`. */
export interface Field {
  readonly word: number;
  readonly shift: number;
  readonly width: number;
}

/**
 * Bits `last : first` of the 64-bit word that starts at 32-bit word `word`; the bits
 * below `first` are zero in the address (they belong to other fields).
 */
export interface AddressField {
  readonly word: number;
  readonly first: number;
  readonly last: number;
}

export type AnyField = Field | AddressField;

const TWO_32 = 2 ** 32;

/** A field by its 32-bit word. */
export function field(word: number, shift: number, width: number): Field {
  return { word, shift, width };
}

/** A field by bit positions within the 64-bit word `quad`, as specifications number them. */
export function quadField(quad: number, last: number, first: number): Field {
  const word = quad * 2 + (first >= 32 ? 1 : 0);
  return { word, shift: first % 32, width: last - first + 1 };
}

/** An address field by bit positions within the 64-bit word `quad`. */
export function addressField(quad: number, last: number, first: number): AddressField {
  return { word: quad * 2, first, last };
}

/** The field's bits within its word, unsigned. */
export function fieldMask(of: Field): number {
  return of.width === 32 ? 0xffffffff : (((1 << of.width) - 1) << of.shift) >>> 0;
}

/** The field of a word that is at hand: for registers. */
export function extract(word: number, of: Field): number {
  return (word & fieldMask(of)) >>> of.shift;
}

/** `value` at the field's place, other bits zero: for registers. */
export function deposit(of: Field, value: number): number {
  return ((value << of.shift) & fieldMask(of)) >>> 0;
}

export function getField(words: Uint32Array, offset: number, of: Field): number {
  return extract(words[offset + of.word], of);
}

/** Bits of `value` beyond the field's width are dropped. */
export function setField(words: Uint32Array, offset: number, of: Field, value: number): void {
  const at = offset + of.word;
  words[at] = (words[at] & ~fieldMask(of)) | deposit(of, value);
}

/**
 * The address in a field. A field that reaches up to bit 63 is sign-extended: addresses of
 * the upper half are negative numbers, so that all that can occur fits a number.
 */
export function getAddress(words: Uint32Array, offset: number, of: AddressField): number {
  const lo = words[offset + of.word] & lowMask(of.first);
  const hi = words[offset + of.word + 1];
  return (of.last === 63 ? hi | 0 : hi & ((1 << (of.last - 31)) - 1)) * TWO_32 + (lo >>> 0);
}

export function setAddress(
  words: Uint32Array,
  offset: number,
  of: AddressField,
  address: number,
): void {
  const at = offset + of.word;
  const low = lowMask(of.first);
  const high = of.last === 63 ? -1 : (1 << (of.last - 31)) - 1;
  words[at] = (words[at] & ~low) | (address & low);
  words[at + 1] = (words[at + 1] & ~high) | (hiHalf(address) & high);
}

/** Bits 31:0 of an address, unsigned; negative addresses as two's complement. */
export function loHalf(address: number): number {
  return address >>> 0;
}

/** Bits 63:32 of an address, unsigned; negative addresses as two's complement. */
export function hiHalf(address: number): number {
  return Math.floor(address / TWO_32) >>> 0;
}

/** The number whose 64-bit two's complement is (lo, hi); exact within ±2^53. */
export function joinHalves(lo: number, hi: number): number {
  return (hi | 0) * TWO_32 + (lo >>> 0);
}

function lowMask(first: number): number {
  return -1 << first;
}
