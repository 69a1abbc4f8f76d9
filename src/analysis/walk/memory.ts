/** Memory as a walk reads it: what a dump holds of it, and nothing else. */

/** A run of addresses that a dump holds; `last` is inclusive. */
export interface MemoryRange {
  readonly first: number;
  readonly last: number;
}

export interface DumpMemory {
  /** In ascending order, without overlaps. */
  readonly ranges: readonly MemoryRange[];
  /** Fills `words` from an address that is a multiple of 8; false when the dump has not all. */
  read(address: number, words: Uint32Array): boolean;
}

export function holds(ranges: readonly MemoryRange[], address: number, bytes: number): boolean {
  return ranges.some(({ first, last }) => address >= first && address + bytes - 1 <= last);
}

/** Bytes that are there already: for tests, and for whoever has a dump in memory. */
export function memoryOf(bytes: Uint8Array, base: number): DumpMemory {
  const ranges = [{ first: base, last: base + bytes.length - 1 }];
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return {
    ranges,
    read(address, words) {
      if (!holds(ranges, address, words.length * 4)) return false;
      for (let word = 0; word < words.length; word++) {
        words[word] = view.getUint32(address - base + word * 4, true);
      }
      return true;
    },
  };
}
