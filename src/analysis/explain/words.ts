/**
 * Hex words as people paste them: with and without 0x, 32 or 64 bits, from gdb, crash or a
 * log; and which structure they may be.
 */

import { Cd, eventName, getField, opcodeName, Ste } from "#arch/smmuv3";
import { InputError } from "../errors.js";

export const KINDS = ["event", "command", "ste", "cd", "pte", "stream-l1", "cd-l1", "pri"] as const;
export type StructureKind = (typeof KINDS)[number];

/** 64-bit words of each. */
export const QUADS: Readonly<Record<StructureKind, number>> = {
  event: 4,
  command: 2,
  ste: 8,
  cd: 8,
  pte: 1,
  "stream-l1": 1,
  "cd-l1": 1,
  pri: 2,
};

/** More than anybody pastes. */
const WORDS_MAX = 4096;
const HEX = /^(?:0x)?[0-9a-f]{1,16}$/i;

/** The hex words of a text; undefined when there is anything else in it. */
export function hexTokens(text: string): string[] | undefined {
  const tokens = text
    .replaceAll("_", "")
    .split(/[\s,;|{}[\]()]+/)
    // What ends in a colon is the address of the words behind it.
    .filter((token) => token !== "" && !/^[^:]+:$/.test(token));
  return tokens.length > 0 && tokens.every((token) => HEX.test(token)) ? tokens : undefined;
}

/** 32-bit halves, low first. `quads`: the 64-bit words that are expected, where that is known. */
export function wordsOf(tokens: readonly string[], quads: number | undefined): Uint32Array {
  if (tokens.length > WORDS_MAX) {
    throw new InputError(`${tokens.length} words are too many; give one structure at a time`);
  }
  const digits = tokens.map((token) => token.replace(/^0x/i, ""));
  const are32 = is32Bit(digits, quads);
  if (are32 && digits.length % 2 !== 0) {
    throw new InputError(`${digits.length} words of 32 bits are no whole 64-bit words; add one`);
  }
  if (are32) return Uint32Array.from(digits, (word) => Number.parseInt(word, 16));
  const words = new Uint32Array(digits.length * 2);
  for (const [index, word] of digits.entries()) {
    words[index * 2] = Number.parseInt(word.slice(-8), 16);
    words[index * 2 + 1] = word.length > 8 ? Number.parseInt(word.slice(0, -8), 16) : 0;
  }
  return words;
}

/** A word of more than 8 digits settles it; then the number of words; then their width. */
function is32Bit(digits: readonly string[], quads: number | undefined): boolean {
  if (digits.some((word) => word.length > 8)) return false;
  if (quads !== undefined && digits.length === quads) return false;
  if (quads !== undefined && digits.length === quads * 2) return true;
  return digits.length % 2 === 0 && digits.every((word) => word.length === 8);
}

/** What the words may be. Throws `InputError` where that is not clear. */
export function guessKind(words: Uint32Array): StructureKind {
  const quads = words.length / 2;
  const choose = `say which with --as ${KINDS.join(", ")}`;
  switch (quads) {
    case 1:
      return "pte";
    case 2:
      if (opcodeName(words[0] & 0xff) !== undefined) return "command";
      throw new InputError(`opcode 0x${(words[0] & 0xff).toString(16)} is no command; ${choose}`);
    case 4:
      if (eventName(words[0] & 0xff) !== undefined) return "event";
      throw new InputError(`type 0x${(words[0] & 0xff).toString(16)} is no event; ${choose}`);
    case 8:
      return guessLarge(words, choose);
    default:
      throw new InputError(
        `${quads} words of 64 bits are no structure (1 PTE, 2 command, 4 event, 8 STE or CD); ` +
          choose,
      );
  }
}

/** V and AA64 of a context descriptor are where an entry's table address has its bits 31, 41. */
function guessLarge(words: Uint32Array, choose: string): StructureKind {
  const isCd = getField(words, 0, Cd.V) === 1 && getField(words, 0, Cd.AA64) === 1;
  const config = getField(words, 0, Ste.Config);
  const isSte = getField(words, 0, Ste.V) === 1 && (config === 0 || config >= 4);
  // Words 4 to 7 of a context descriptor are reserved; so are those of an entry.
  if (isCd !== isSte) return isCd ? "cd" : "ste";
  // A bypass entry has no table: an address there means a context descriptor (T0SZ odd).
  if (isCd && (config === 4 || config === 0)) return "cd";
  throw new InputError(`these 8 words may be an STE as well as a CD; ${choose}`);
}
