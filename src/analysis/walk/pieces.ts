/**
 * Tables of a dump in pieces of at most 4 KiB, as far as the dump holds them, under a limit on
 * all the work together: whatever pointers a damaged dump has in it, listing it ends.
 */

import { hex, sizeText } from "../structures/fields.js";
import type { DumpMemory } from "./memory.js";

export const PIECE_BYTES = 4096;

/**
 * Pieces that one listing reads: 32 GiB of tables, which map 16 TiB in 4 KiB pages. Also keeps
 * the set of tables below what a Set of V8 holds (2^24).
 */
export const PIECES_MAX = 2 ** 23;

/** A part of a table that the dump holds; `words` are overwritten by the next one. */
export interface Piece {
  readonly address: number;
  /** Bytes from the beginning of the table. */
  readonly offset: number;
  readonly words: Uint32Array;
}

/** What a listing has read and seen so far. */
export class WorkLedger {
  readonly #seen = new Set<number>();
  readonly #repeated = new Set<number>();
  #pieces = 0;

  get isExhausted(): boolean {
    return this.#pieces >= PIECES_MAX;
  }

  /** Counts one piece of work; false once there has been too much of it. */
  spend(): boolean {
    this.#pieces++;
    return this.#pieces <= PIECES_MAX;
  }

  /** Whether a table is new as what `role` says (0 to 63): the first time only. */
  isNew(address: number, role: number): boolean {
    return addTo(this.#seen, keyOf(address, role));
  }

  /** Whether its repetition has not been told yet. */
  isFirstRepeat(address: number, role: number): boolean {
    return addTo(this.#repeated, keyOf(address, role));
  }
}

/** Addresses have 52 bits and tables are aligned to 64 bytes: 46 bits and 6 for the role. */
function keyOf(address: number, role: number): number {
  return Math.floor(address / 64) * 64 + role;
}

function addTo(set: Set<number>, key: number): boolean {
  if (set.has(key)) return false;
  set.add(key);
  return true;
}

/**
 * The pieces of the table at `address`. Gives to `missing` what the dump has not of it; ends
 * early when the ledger is exhausted.
 */
export function* piecesOf(
  memory: DumpMemory,
  ledger: WorkLedger,
  address: number,
  bytes: number,
  missing: (problem: string) => void,
): Generator<Piece, void, undefined> {
  const last = address + bytes - 1;
  const words = new Uint32Array(PIECE_BYTES / 4);
  let held = 0;
  for (const range of memory.ranges) {
    const first = Math.max(address, Math.ceil(range.first / 64) * 64);
    const end = Math.min(last + 1, Math.floor((range.last + 1) / 64) * 64);
    for (let at = first; at < end; ) {
      if (!ledger.spend()) return;
      const length = Math.min(PIECE_BYTES - (at % PIECE_BYTES), end - at);
      const part = words.subarray(0, length / 4);
      if (memory.read(at, part)) {
        held += length;
        yield { address: at, offset: at - address, words: part };
      }
      at += length;
    }
  }
  if (held < bytes) {
    missing(`${sizeText(bytes - held)} of the ${sizeText(bytes)} at ${hex(address)}`);
  }
}
