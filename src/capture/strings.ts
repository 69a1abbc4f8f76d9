/**
 * Short strings that come back millions of times (names of devices) without making millions of
 * string objects. Owns its table.
 */

/** Devices of a capture are few; what does not fit replaces what was there. */
const SLOTS = 256;

/** A capture has one of its own. */
export class StringCache {
  readonly #slots: string[] = new Array<string>(SLOTS).fill("");

  /** The bytes of a range up to its first NUL, as text. */
  text(bytes: Buffer, start: number, end: number): string {
    let hash = 0x811c9dc5; // FNV-1a, 32 bits: offset basis and prime.
    let stop = start;
    for (; stop < end && bytes[stop] !== 0; stop += 1) {
      hash = Math.imul(hash ^ bytes[stop], 0x01000193);
    }
    const slot = (hash ^ (hash >>> 16)) & (SLOTS - 1);
    const known = this.#slots[slot];
    if (isSame(known, bytes, start, stop)) return known;
    const fresh = bytes.toString("utf8", start, stop);
    this.#slots[slot] = fresh;
    return fresh;
  }
}

/** Only ASCII is ever found to be the same; other text is decoded each time. */
function isSame(text: string, bytes: Buffer, start: number, end: number): boolean {
  if (text.length !== end - start) return false;
  for (let index = 0; index < text.length; index += 1) {
    const code = text.charCodeAt(index);
    if (code !== bytes[start + index] || code > 0x7f) return false;
  }
  return true;
}
